"""The ledger, read back from a partition of ``mail.outcome``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from confluent_kafka import TopicPartition

from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.errors import Undecodable
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, Entry, decode_checkpoint, decode_entry
from sluice.domain.topics import OUTCOME

log = structlog.get_logger(__name__)
_CHECKPOINT = CHECKPOINT_TYPE.encode()


class KafkaLedgerLog:
    """Reads at most ``records``, and no further back than ``seconds`` before the partition's last record.

    Checkpoints are written every few seconds while anything is unfinished, so the last one lies within.
    """

    def __init__(self, options: Mapping[str, Any], *, records: int = 100_000, seconds: float = 600.0) -> None:
        self._options = options
        self._records = records
        self._seconds = seconds

    async def read_back(
        self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]
    ) -> int:
        """See :class:`sluice.ports.ledger.LedgerLog`."""
        return await asyncio.to_thread(self._read, partition, entry, checkpoint)

    def _read(self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]) -> int:
        consumer = reader(self._options)
        try:
            low, high = ends(consumer, OUTCOME, partition)
            first = self._first(consumer, partition, low, high)
            count = 0
            for message in read_range(consumer, OUTCOME, partition, first, high):
                count += 1
                value = message.value() or b""
                try:
                    if dict(message.headers() or []).get("ce_type") == _CHECKPOINT:
                        checkpoint(decode_checkpoint(value))
                    else:
                        entry(decode_entry(value))
                except Undecodable as error:
                    log.warning("ledger.unreadable", partition=partition, offset=message.offset(), error=str(error))
            return count
        finally:
            consumer.close()

    def _first(self, consumer: Any, partition: int, low: int, high: int) -> int:
        if high <= low:
            return high
        newest = next(iter(read_range(consumer, OUTCOME, partition, high - 1, high)), None)
        first = max(low, high - self._records)
        if newest is None:
            return first
        since = max(0, newest.timestamp()[1] - int(self._seconds * 1000))
        found = consumer.offsets_for_times([TopicPartition(OUTCOME, partition, since)], timeout=20)[0].offset
        return max(first, found if found >= 0 else low)
