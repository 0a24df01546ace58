"""The ledger, read back from a partition of ``mail.outcome``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from sluice.adapters.kafka.steady import SteadyReader
from sluice.domain.errors import Undecodable
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, Entry, decode_checkpoint, decode_entry
from sluice.domain.topics import OUTCOME

log = structlog.get_logger(__name__)
_CHECKPOINT = CHECKPOINT_TYPE.encode()


class KafkaLedgerLog:
    """Reads at most ``records``, and no further back than ``seconds`` before the partition's last record.

    Checkpoints are written every few seconds while anything is unfinished, so the last one lies within. A broker that
    restarts or a leader that moves meanwhile is waited for, ``patience_s`` seconds at most.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        records: int = 100_000,
        seconds: float = 600.0,
        patience_s: float = 90.0,
    ) -> None:
        self._options = options
        self._patience_s = patience_s
        self._records = records
        self._seconds = seconds

    async def read_back(
        self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]
    ) -> int:
        """See :class:`sluice.ports.ledger.LedgerLog`."""
        return await asyncio.to_thread(self._read, partition, entry, checkpoint)

    def _read(self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]) -> int:
        reader = SteadyReader(self._options, self._patience_s, f"ledger of partition {partition}")
        try:
            low, high = reader.ends(OUTCOME, partition)
            first = self._first(reader, partition, low, high)
            count = 0
            for message in reader.records(OUTCOME, partition, first, high):
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
            reader.close()

    def _first(self, reader: SteadyReader, partition: int, low: int, high: int) -> int:
        if high <= low:
            return high
        newest = next(iter(reader.records(OUTCOME, partition, high - 1, high)), None)
        first = max(low, high - self._records)
        if newest is None:
            return first
        since = max(0, newest.timestamp()[1] - int(self._seconds * 1000))
        found = reader.offset_at(OUTCOME, partition, since)
        return max(first, low if found is None else found)
