"""A follower of records handed to it: the twin of the Kafka follower."""

from __future__ import annotations

from sluice.ports.follower import Part, Polled
from sluice.ports.intake import Taken


class MemoryFollower:
    """Gives what was put in, once; keeps what was committed and which partitions are paused."""

    def __init__(self) -> None:
        self._coming: list[Taken] = []
        self._revoked: set[Part] = set()
        self.committed: dict[Part, int] = {}
        self.paused: set[Part] = set()
        self.closed = False

    def put(self, *records: Taken) -> None:
        """Records for the next poll."""
        self._coming += records

    def revoke(self, *parts: Part) -> None:
        """Take partitions away at the next poll."""
        self._revoked |= set(parts)

    async def poll(self, wait: float) -> Polled:
        """See :class:`sluice.ports.follower.Follower`; never waits."""
        ready = [record for record in self._coming if (record.topic, record.partition) not in self.paused]
        self._coming = [record for record in self._coming if (record.topic, record.partition) in self.paused]
        revoked, self._revoked = frozenset(self._revoked), set()
        return Polled(ready, revoked)

    async def commit(self, offsets: dict[Part, int]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self.committed.update(offsets)

    def pause(self, parts: set[Part]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self.paused |= parts

    def resume(self, parts: set[Part]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self.paused -= parts

    async def close(self) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self.closed = True
