"""Memory twins of what driving mails again needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from sluice.domain.outcome import Source
from sluice.domain.redrive import Candidate, Item, Plan, Reason, Word, counted
from sluice.domain.topics import DEAD
from sluice.ports.intake import Taken
from sluice.ports.redrive import Limits, MailName, Progress, Reached, Results, TooMany

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryPlans:
    """Keeps plans in dictionaries. Its clock goes on by a second with every word and every batch."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._items: dict[str, list[Item]] = {}
        self._words: list[Word] = []
        self._batches: dict[tuple[str, int], Reached] = {}

    def keep(self, plan: Plan, items: Sequence[Item]) -> None:
        """See :class:`sluice.ports.redrive.Plans`."""
        self._items[plan.plan_id] = list(items)
        self._plans[plan.plan_id] = plan

    def plan(self, plan_id: str) -> Plan | None:
        """See :class:`sluice.ports.redrive.Plans`."""
        plan = self._plans.get(plan_id)
        return plan and msgspec.structs.replace(plan, counts=counted(self._items[plan_id])[0])

    def plans(self) -> list[Plan]:
        """See :class:`sluice.ports.redrive.Plans`."""
        found = [msgspec.structs.replace(plan, counts=[]) for plan in self._plans.values()]
        return sorted(found, key=lambda plan: plan.created_at, reverse=True)

    def items(self, plan_id: str, first: int, count: int, *, excluded: Reason | None = None) -> list[Item]:
        """See :class:`sluice.ports.redrive.Plans`."""
        among = [item for item in self._items.get(plan_id, ()) if item.excluded == excluded and item.number >= first]
        return sorted(among, key=lambda item: item.number)[:count]

    def say(self, word: Word) -> None:
        """See :class:`sluice.ports.redrive.Plans`."""
        at = _BEGAN + timedelta(seconds=len(self._words))
        self._words.append(msgspec.structs.replace(word, at=at))

    def words(self, plan_id: str) -> list[Word]:
        """See :class:`sluice.ports.redrive.Plans`."""
        return [word for word in self._words if word.plan_id == plan_id]

    def reached(self, plan_id: str, batch: Reached) -> None:
        """See :class:`sluice.ports.redrive.Plans`."""
        self._batches[plan_id, batch.first] = batch

    def progress(self, plan_id: str) -> Progress:
        """See :class:`sluice.ports.redrive.Plans`."""
        batches = [batch for (plan, _), batch in self._batches.items() if plan == plan_id]
        skipped: dict[str, int] = {}
        for batch in batches:
            for reason, count in batch.skipped.items():
                skipped[reason] = skipped.get(reason, 0) + count
        at = _BEGAN + timedelta(seconds=len(batches)) if batches else None
        return Progress(max((batch.next for batch in batches), default=0), skipped, at)


class MemoryMails:
    """Mails by name; a predicate is a key of ``predicates``, which says of each mail whether it holds."""

    def __init__(
        self, mails: Iterable[Candidate] = (), predicates: Mapping[str, Callable[[Candidate], bool]] | None = None
    ) -> None:
        self.mails: dict[MailName, Candidate] = {(mail.tenant_id, mail.message_id): mail for mail in mails}
        self._predicates = predicates or {}

    def select(self, predicate: str, tenant_id: str, *, dead_letters: bool, limits: Limits) -> list[Candidate]:
        """See :class:`sluice.ports.redrive.Mails`."""
        holds = self._predicates.get(predicate, _always)
        found = [
            mail
            for mail in self.mails.values()
            if holds(mail) and tenant_id in ("", mail.tenant_id) and (not dead_letters or mail.state == "dead")
        ]
        if len(found) > limits.mails:
            raise TooMany(f"{len(found)} mails")
        return found

    def look(self, names: Sequence[MailName]) -> dict[MailName, Candidate]:
        """See :class:`sluice.ports.redrive.Mails`."""
        return {name: self.mails[name] for name in names if name in self.mails}

    def results(self, plan: Plan) -> Results:
        """See :class:`sluice.ports.redrive.Mails`: nothing is delivered in memory."""
        return Results({})


class MemoryContents:
    """A log's records; ``lost`` makes those below an offset of a partition disappear."""

    def __init__(self, records: Iterable[Taken] = ()) -> None:
        self.records = {(record.topic, record.partition, record.offset): record for record in records}
        self.first: dict[tuple[str, int], int] = {}

    def first_kept(self) -> dict[tuple[str, int], int]:
        """See :class:`sluice.ports.redrive.Contents`."""
        return {(topic, partition): 0 for topic, partition, _ in self.records} | self.first

    def fetch(self, sources: Sequence[Source]) -> list[Taken | None]:
        """See :class:`sluice.ports.redrive.Contents`."""
        return [
            None
            if source.offset < self.first.get((source.topic, source.partition), 0)
            else self.records.get((source.topic, source.partition, source.offset))
            for source in sources
        ]

    def letters(self) -> list[Taken]:
        """See :class:`sluice.ports.redrive.Contents`."""
        return [record for (topic, _, _), record in sorted(self.records.items()) if topic == DEAD]


def _always(_: Candidate) -> bool:
    return True
