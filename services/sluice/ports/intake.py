"""Taking records from the log."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from sluice.domain.mail import Headers
from sluice.domain.window import Range


class Taken(msgspec.Struct, frozen=True):
    """A record read from the log; ``stored_at`` in seconds since the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    stored_at: float

    @property
    def size(self) -> int:
        """Bytes it keeps in memory, roughly."""
        return len(self.value or b"") + 500


Done = Callable[[], None]
"""Says that everything which follows from a record is durable; calling it again changes nothing."""


class Handler(Protocol):
    """What a service does with records. Partitions are numbers: those of co-partitioned topics belong together."""

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """The partition is ours from now on. Returns, by topic, offsets that an earlier owner finished."""
        ...

    def take(self, record: Taken, done: Done) -> None:
        """Begin work on a record; must not block. The record is committed some time after ``done`` was called."""
        ...

    async def revoked(self, partitions: set[int]) -> None:
        """The partitions are about to move away: finish what cannot be handed back, drop the rest; bounded in time."""
        ...


class Intake(Protocol):
    """Feeds a handler from the partitions that this process owns."""

    async def start(self) -> None:
        """Join; returns when the process is a member of its group."""
        ...

    async def stop(self) -> None:
        """Leave: revokes everything, commits what is finished."""
        ...

    def finished_beyond(self, partition: int) -> dict[str, list[Range]]:
        """By topic, finished offsets that are not committed yet."""
        ...
