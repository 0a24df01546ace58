"""Publishing to the log."""

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from sluice.domain.mail import Headers


class Record(msgspec.Struct, frozen=True):
    """A record to publish. ``partition`` None leaves the choice to the key (murmur2, as Java's default)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = []
    partition: int | None = None


class Position(msgspec.Struct, frozen=True):
    """Where a record was stored."""

    topic: str
    partition: int
    offset: int


class Bus(Protocol):
    """A durable, partitioned log."""

    def publish(self, record: Record) -> Awaitable[Position]:
        """Queue a record; the awaitable is done when the log has acknowledged it durably.

        Raises (from the awaitable) :class:`NotStored` when the log refused or could not be reached in time.
        """
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises :class:`NotStored` when there is no such topic."""
        ...


class NotStored(Exception):
    """The log did not acknowledge a record; it may be published again."""
