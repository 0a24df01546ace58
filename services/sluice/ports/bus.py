"""Publishing to the log."""

import asyncio
from collections.abc import Callable, Sequence
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
    urgent: bool = False
    """Whether it must not wait for others to go with, unless so many are urgent that they come by themselves soon.

    Those of its topic that were published before it go before it all the same.
    """
    awaited: bool = True
    """Whether something goes on only once it is stored."""
    patient: bool = False
    """Whether it is one of so many that were waiting already that a fifth of a second more is nothing to it."""


class Position(msgspec.Struct, frozen=True):
    """Where a record was stored."""

    topic: str
    partition: int
    offset: int


class Bus(Protocol):
    """A durable, partitioned log."""

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """Queue a record; the future is done when the log has acknowledged it durably.

        It fails with :class:`NotStored` when the log refused or could not be reached in time.
        """
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises :class:`NotStored` when there is no such topic."""
        ...


class NotStored(Exception):
    """The log did not acknowledge a record; it may be published again."""


def when_stored(
    stored: Sequence[asyncio.Future[Position]],
    then: Callable[[], None],
    fatal: Callable[[BaseException], None],
) -> None:
    """Call ``then`` once all are stored, or ``fatal`` with the first failure. Costs no task: it is called per mail."""
    left = len(stored)

    def one_done(future: asyncio.Future[Position]) -> None:
        nonlocal left
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            fatal(error)
            return
        left -= 1
        if not left:
            then()

    for future in stored:
        future.add_done_callback(one_done)
