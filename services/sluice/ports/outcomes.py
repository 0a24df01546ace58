"""Keeping outcomes: the batches they are read in, and the store that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from sluice.domain.outcome import Outcome
from sluice.ports.intake import Taken


class Slice(msgspec.Struct, frozen=True, gc=False):
    """All records of one partition from offset ``first`` to ``last``, both included."""

    partition: int
    first: int
    last: int
    records: Sequence[Taken]


class Batch(msgspec.Struct, frozen=True):
    """Records to store together: one slice per partition, in the order of partitions.

    The same ranges always hold the same records, so ``token`` names the batch wherever it is built again. It spans
    partitions because an insert costs the store far more than a row: their number must not grow with the partitions.
    """

    topic: str
    slices: Sequence[Slice]

    @property
    def ranges(self) -> str:
        """``partition:first-last``, separated by commas."""
        return ",".join(f"{part.partition}:{part.first}-{part.last}" for part in self.slices)

    @property
    def token(self) -> str:
        """``topic:`` and the ranges."""
        return f"{self.topic}:{self.ranges}"


class BatchSource(Protocol):
    """Reads the log in batches that survive a crash: what was handed out is handed out again with the same ranges.

    One batch at a time: finish it, or give it up because it is no longer held, before the next is taken.
    """

    async def take(self) -> Batch | None:
        """The next batch; None when there is nothing for a moment.

        Its ranges are stored in the log before this returns, so that whoever takes a partition over builds the same.
        Raises :class:`SourceAway` when the log cannot be reached; asking again is the thing to do.
        """
        ...

    async def finish(self, batch: Batch) -> None:
        """It is stored: never hand it out again. For partitions lost in between this does nothing. Never raises."""
        ...

    async def keep(self) -> None:
        """Stay a member of the group without taking more; to be called every few seconds while a batch has to wait."""
        ...

    def holds(self, batch: Batch) -> bool:
        """Whether any of the batch's partitions is still this reader's; if not, their new owners store the batch."""
        ...

    def lag(self) -> int:
        """How many records are in the log beyond what was finished, over the partitions owned; as last heard."""
        ...


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An outcome without its recipient's address, and where it stands in the log."""

    outcome: Outcome
    partition: int
    offset: int


class Address(msgspec.Struct, frozen=True, gc=False):
    """Who a mail went to; ``seen_at`` in seconds since the epoch. Kept apart from outcomes, for a short time."""

    message_id: str
    tenant_id: str
    recipient: str
    recipient_hash: str
    seen_at: int


class OutcomeStore(Protocol):
    """Keeps outcomes for analysis."""

    async def store(self, token: str, outcomes: Sequence[Recorded], addresses: Sequence[Address]) -> None:
        """Keep a batch; storing it again under the same token changes nothing, rollups included.

        Raises :class:`StoreAway` when it is not certain that the batch is kept: store it again, whole, under its token.
        """
        ...


class StoreAway(Exception):
    """The store cannot take a batch now: not reachable, overloaded, or its schema is missing.

    The message says which; addresses and rows are not in it.
    """


class SourceAway(Exception):
    """The log cannot be reached, or has just taken the partitions away; ask again."""
