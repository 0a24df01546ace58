"""Idempotency keys, read back from the partition of ``mail.idempotency`` with the same number."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import TopicPartition

from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.errors import Undecodable
from sluice.domain.repeats import SeenKeys, decode_seen
from sluice.domain.topics import IDEMPOTENCY

log = structlog.get_logger(__name__)


class KafkaSeenLog:
    """Remembers keys for ``window`` seconds, at most ``limit`` in one partition."""

    def __init__(self, options: Mapping[str, Any], *, window: float, limit: int) -> None:
        self._options = options
        self._window = window
        self._limit = limit

    async def load(self, partition: int, now: float) -> SeenKeys:
        """See :class:`sluice.ports.seen.SeenLog`."""
        return await asyncio.to_thread(self._load, partition, now)

    def _load(self, partition: int, now: float) -> SeenKeys:
        keys = SeenKeys(self._window, self._limit)
        consumer = reader(self._options)
        try:
            low, high = ends(consumer, IDEMPOTENCY, partition)
            if high <= low:
                return keys
            since = TopicPartition(IDEMPOTENCY, partition, max(0, int((now - self._window) * 1000)))
            found = consumer.offsets_for_times([since], timeout=20)[0].offset
            for message in read_range(consumer, IDEMPOTENCY, partition, found if found >= 0 else high, high):
                try:
                    keys.add(message.key() or b"", decode_seen(message.value() or b""))
                except Undecodable as error:
                    log.warning("seen.unreadable", partition=partition, offset=message.offset(), error=str(error))
        finally:
            consumer.close()
        return keys
