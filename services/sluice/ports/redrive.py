"""What driving mails again needs: the plans, what is known of mails, and their send events. All of it blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from sluice.domain.errors import SluiceError
from sluice.domain.outcome import Source
from sluice.domain.redrive import Candidate, Item, Plan, Reason, Word
from sluice.ports.intake import Taken

MailName = tuple[str, str]
"""A tenant's id and a mail's."""


class PredicateRefused(SluiceError):
    """The operator's fault: the predicate is no condition over the outcomes, or holds what is not allowed in one."""


class TooMany(SluiceError):
    """The operator's fault: more is selected, or read for it, than may be."""


class Limits(msgspec.Struct, frozen=True):
    """What selecting mails may take: seconds, bytes of the store's memory, rows read, and mails selected."""

    seconds: float = 60.0
    memory: int = 2 << 30
    rows: int = 2_000_000_000
    mails: int = 1_000_000


class Reached(msgspec.Struct, frozen=True):
    """A batch of a plan's list from number ``first`` to before ``next`` that the log has acknowledged: how many were
    published, and how many were not after all, by reason."""

    run: str
    first: int
    next: int
    published: int
    skipped: dict[str, int] = {}


class Progress(msgspec.Struct, frozen=True):
    """How far a plan's drivers have come: everything below ``next`` is dealt with; ``skipped`` as in Reached. ``at`` is
    when the last batch was noted."""

    next: int = 0
    skipped: dict[str, int] = {}
    at: datetime | None = None


class Results(msgspec.Struct, frozen=True):
    """What became of the mails that a plan made, by state as in ``mail_state``; and how many requests of it were
    recognised as repeats, and made no mail."""

    states: dict[str, int]
    repeats: int = 0


class Plans(Protocol):
    """Keeps plans, and what is said of them."""

    def keep(self, plan: Plan, items: Sequence[Item]) -> None:
        """Store a new plan with its list. A plan that is found has all of its list."""
        ...

    def plan(self, plan_id: str) -> Plan | None:
        """A plan, or None."""
        ...

    def plans(self) -> list[Plan]:
        """All plans, the latest first, without their ``counts``."""
        ...

    def items(self, plan_id: str, first: int, count: int, *, excluded: Reason | None = None) -> list[Item]:
        """Those of the list from number ``first`` on, at most ``count``; of those to be driven, or of one reason's."""
        ...

    def say(self, word: Word) -> None:
        """Add a word. The store says when: ``word.at`` is not read."""
        ...

    def words(self, plan_id: str) -> list[Word]:
        """Everything said of a plan, in the order it was stored."""
        ...

    def reached(self, plan_id: str, batch: Reached) -> None:
        """Remember a batch that the log has."""
        ...

    def progress(self, plan_id: str) -> Progress:
        """How far it has come."""
        ...


class Mails(Protocol):
    """What the outcomes say of mails."""

    def select(self, predicate: str, tenant_id: str, *, dead_letters: bool, limits: Limits) -> list[Candidate]:
        """Mails with an outcome that the predicate holds for, of one tenant, or of all when that is empty; with
        ``dead_letters`` only outcomes ``dead`` count.

        Raises :class:`PredicateRefused` naming what is not allowed and where, and :class:`TooMany`.
        """
        ...

    def look(self, names: Sequence[MailName]) -> dict[MailName, Candidate]:
        """Mails as they are known now; those that are unknown are left out. ``driven_by`` is a plan that did."""
        ...

    def results(self, plan: Plan) -> Results:
        """What became of a plan's mails so far."""
        ...


class Contents(Protocol):
    """Send events that the log still holds."""

    def first_kept(self) -> Mapping[tuple[str, int], int]:
        """The first offset that is kept, by topic and partition, of the topics that hold send events."""
        ...

    def fetch(self, sources: Sequence[Source]) -> list[Taken | None]:
        """The records at these places, None for those that are no longer there; in the same order."""
        ...

    def letters(self) -> Iterable[Taken]:
        """All dead letters."""
        ...
