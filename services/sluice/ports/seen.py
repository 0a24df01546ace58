"""Idempotency keys, kept beside the partition that they guard."""

from typing import Protocol

from sluice.domain.repeats import SeenKeys


class SeenLog(Protocol):
    """The keys of each partition of ``mail.send.*``, durably."""

    async def load(self, partition: int, now: float) -> SeenKeys:
        """Every key that still counts at ``now`` (seconds since the epoch)."""
        ...
