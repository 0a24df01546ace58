"""Following a log as a member of a group, with commits by hand."""

from typing import Protocol

import msgspec

from sluice.ports.intake import Taken

Part = tuple[str, int]
"""Topic and partition."""


class Polled(msgspec.Struct, frozen=True):
    """What came since the last poll. Partitions in ``revoked`` are no longer ours; it comes before the records."""

    records: list[Taken]
    revoked: frozenset[Part] = frozenset()


class Follower(Protocol):
    """A consumer that reads what it is assigned."""

    async def poll(self, wait: float) -> Polled:
        """What there is, waiting at most ``wait`` seconds for something."""
        ...

    async def commit(self, offsets: dict[Part, int]) -> None:
        """Commit next offsets to read, durably. Partitions that were revoked meanwhile are passed over."""
        ...

    def pause(self, parts: set[Part]) -> None:
        """Fetch nothing from these partitions for now."""
        ...

    def resume(self, parts: set[Part]) -> None:
        """Fetch from them again."""
        ...

    async def close(self) -> None:
        """Leave the group."""
        ...
