"""Idempotency keys, read back from the partition of ``mail.idempotency`` with the same number."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from sluice.adapters.kafka.steady import SteadyReader
from sluice.domain.errors import Undecodable
from sluice.domain.repeats import SeenKeys, decode_seen
from sluice.domain.topics import IDEMPOTENCY

log = structlog.get_logger(__name__)


class KafkaSeenLog:
    """Remembers keys for ``window`` seconds, at most ``limit`` in one partition.

    A broker that restarts while keys are read back is waited for, ``patience_s`` seconds at most.
    """

    def __init__(self, options: Mapping[str, Any], *, window: float, limit: int, patience_s: float = 90.0) -> None:
        self._patience_s = patience_s
        self._options = options
        self._window = window
        self._limit = limit

    async def load(self, partition: int, now: float) -> SeenKeys:
        """See :class:`sluice.ports.seen.SeenLog`."""
        return await asyncio.to_thread(self._load, partition, now)

    def _load(self, partition: int, now: float) -> SeenKeys:
        keys = SeenKeys(self._window, self._limit)
        reader = SteadyReader(self._options, self._patience_s, f"idempotency keys of partition {partition}")
        try:
            low, high = reader.ends(IDEMPOTENCY, partition)
            if high <= low:
                return keys
            first = reader.offset_at(IDEMPOTENCY, partition, max(0, int((now - self._window) * 1000)))
            for message in reader.records(IDEMPOTENCY, partition, high if first is None else first, high):
                try:
                    keys.add(message.key() or b"", decode_seen(message.value() or b""))
                except Undecodable as error:
                    log.warning("seen.unreadable", partition=partition, offset=message.offset(), error=str(error))
        finally:
            reader.close()
        return keys
