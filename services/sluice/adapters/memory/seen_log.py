"""Idempotency keys read back from a memory bus."""

from __future__ import annotations

from sluice.adapters.memory.bus import MemoryBus
from sluice.domain.repeats import SeenKeys, decode_seen
from sluice.domain.topics import IDEMPOTENCY


class MemorySeenLog:
    """Implements :class:`sluice.ports.seen.SeenLog`."""

    def __init__(self, bus: MemoryBus, *, window: float = 86_400.0, limit: int = 100_000) -> None:
        self._bus = bus
        self._window = window
        self._limit = limit

    async def load(self, partition: int, now: float) -> SeenKeys:
        """See :class:`sluice.ports.seen.SeenLog`."""
        keys = SeenKeys(self._window, self._limit)
        for record in self._bus.stored[IDEMPOTENCY, partition]:
            seen = decode_seen(record.value or b"")
            if seen.at + self._window > now:
                keys.add(record.key or b"", seen)
        return keys
