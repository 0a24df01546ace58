"""Memory twins of the outcome store and the batch source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sluice.domain.mail import Headers
from sluice.ports.intake import Taken
from sluice.ports.outcomes import Address, Batch, Recorded, Slice, StoreAway


class MemoryOutcomes:
    """Keeps outcomes in lists. ``away`` makes that many calls fail; ``lose_answers`` keeps the batch and then fails, as
    a connection that breaks after the insert does."""

    def __init__(self) -> None:
        self.outcomes: list[Recorded] = []
        self.addresses: dict[tuple[str, str], Address] = {}
        self.tokens: list[str] = []
        self.away = 0
        self.lose_answers = 0

    async def store(self, token: str, outcomes: Sequence[Recorded], addresses: Sequence[Address]) -> None:
        """See :class:`sluice.ports.outcomes.OutcomeStore`."""
        if self.away > 0:
            self.away -= 1
            raise StoreAway("away, as it was told to be")
        if token not in self.tokens:
            self.tokens.append(token)
            self.outcomes.extend(outcomes)
            for address in addresses:
                self.addresses[address.tenant_id, address.message_id] = address
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise StoreAway("the answer was lost, as it was told to be")


class MemoryBatches:
    """A log of one topic in memory, read in batches of at most ``rows`` records of each partition.

    What a reader leaves behind when it is thrown away is in ``log``, ``committed`` (the next offset by partition) and
    ``ranges`` (the last offset handed out and not finished): pass them to the next one, as the log would.
    """

    def __init__(
        self,
        topic: str = "mail.outcome",
        *,
        rows: int = 100,
        log: dict[int, list[Taken]] | None = None,
        committed: dict[int, int] | None = None,
        ranges: dict[int, int] | None = None,
    ) -> None:
        self.topic = topic
        self.rows = rows
        self.log = {} if log is None else log
        self.committed = {} if committed is None else committed
        self.ranges = {} if ranges is None else ranges
        self.lost: set[int] = set()
        self.kept = 0

    def append(self, partition: int, value: bytes | None, headers: Headers | None = None) -> int:
        """Add a record; returns its offset."""
        records = self.log.setdefault(partition, [])
        records.append(Taken(self.topic, partition, len(records), None, value, headers or [], 0.0))
        return len(records) - 1

    async def take(self) -> Batch | None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        await asyncio.sleep(0)
        handed_out = bool(self.ranges)
        slices = []
        for partition, records in sorted(self.log.items()):
            first = self.committed.get(partition, 0)
            if partition in self.lost or first >= len(records) or (handed_out and partition not in self.ranges):
                continue
            last = self.ranges.setdefault(partition, min(first + self.rows, len(records)) - 1)
            slices.append(Slice(partition, first, last, records[first : last + 1]))
        return Batch(self.topic, slices) if slices else None

    async def finish(self, batch: Batch) -> None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        for part in batch.slices:
            if part.partition not in self.lost:
                self.committed[part.partition] = part.last + 1
                self.ranges.pop(part.partition, None)

    async def keep(self) -> None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        self.kept += 1

    def holds(self, batch: Batch) -> bool:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        return any(part.partition not in self.lost for part in batch.slices)

    def lag(self) -> int:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        return sum(len(records) - self.committed.get(partition, 0) for partition, records in self.log.items())
