"""Driving mails again: which of those that were selected may be, what a plan is, and how it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from sluice.domain.events import Priority
from sluice.domain.outcome import Source
from sluice.domain.shaping import Rate

Reason = Literal["delivered", "driven", "in_doubt", "suppressed", "waiting", "expired", "duplicate", "content"]
"""Why a mail is not driven again."""

REASONS: dict[Reason, str] = {
    "delivered": "it has been delivered by now",
    "driven": "a plan has driven it, or one that was started is about to",
    "in_doubt": "an attempt of it is in doubt: the receiving server may have taken it",
    "suppressed": "its recipient is suppressed by now",
    "waiting": "it is still under way by itself",
    "expired": "its producer wanted it sent before a moment that has passed",
    "duplicate": "it repeated an event that was sent under another id",
    "content": "its send event is no longer in Kafka, or it was composed before outcomes told where that is",
}

State = Literal["planned", "running", "paused", "done", "cancelled"]
Action = Literal["plan", "start", "pause", "resume", "cancel", "done", "stopped"]
"""``stopped`` is a driver's own word: it could not go on, and somebody may start it again."""

_AFTER: dict[Action, State] = {
    "plan": "planned", "start": "running", "resume": "running", "pause": "paused", "stopped": "paused",
    "cancel": "cancelled", "done": "done",
}  # fmt: skip
_ENDED: frozenset[State] = frozenset(("done", "cancelled"))
_REPEATED = frozenset(("duplicate", "idempotency_conflict"))


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that the predicate selected, as the store knows it at one moment. Absent text is empty."""

    tenant_id: str
    message_id: str
    state: str
    """As in ``mail_state``."""
    site: str = ""
    category: str = ""
    recipient_domain: str = ""
    in_doubt: bool = False
    suppressed: bool = False
    driven_by: str = ""
    """A plan that has driven it; or one that was started, has it in its list, and has not come to it."""
    expires_at: datetime | None = None
    """What its producer asked for."""
    content: Source | None = None
    """Where its send event is."""


def exclusion(mail: Candidate, *, plan: str, now: datetime, first_kept: Mapping[tuple[str, int], int]) -> Reason | None:
    """Why a mail is not to be driven by ``plan``; None when it is. The gravest reason counts.

    ``first_kept`` is the first offset that Kafka still has of each topic and partition.
    """
    if mail.state == "delivered":
        return "delivered"
    if mail.driven_by and mail.driven_by != plan:
        return "driven"
    if mail.in_doubt:
        return "in_doubt"
    if mail.suppressed or mail.state == "suppressed":
        return "suppressed"
    if mail.state == "waiting":
        return "waiting"
    if mail.state == "rejected" and mail.category in _REPEATED:
        return "duplicate"
    if mail.expires_at is not None and mail.expires_at <= now:
        return "expired"
    source = mail.content
    if source is None or source.offset < first_kept.get((source.topic, source.partition), source.offset + 1):
        return "content"
    return None


class Item(msgspec.Struct, frozen=True):
    """A mail of a plan's list. ``number`` counts from 0 those that are to be driven, in the order they are driven in;
    those ``excluded`` are counted apart."""

    number: int
    mail: Candidate
    excluded: Reason | None = None


class Count(msgspec.Struct, frozen=True):
    """How many mails of a plan go to a site after a failure of one category."""

    site: str
    category: str
    mails: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be driven again. Its list of mails lies beside it, and neither ever changes."""

    plan_id: str
    tenant_id: str
    """Empty for all tenants."""
    predicate: str
    dead_letters: bool = False
    created_at: datetime
    created_by: str
    mails: int
    excluded: dict[str, int] = {}
    counts: list[Count] = []


def listed(candidates: Iterable[tuple[Candidate, Reason | None]]) -> list[Item]:
    """The mails of a plan in the order they will be driven in: that of their ids, which is the one they came in. So
    their events lie close together in the log, and their sites are as mixed as they were."""
    driven: list[Candidate] = []
    excluded: list[Item] = []
    for mail, reason in sorted(candidates, key=lambda pair: pair[0].message_id):
        if reason is None:
            driven.append(mail)
        else:
            excluded.append(Item(len(excluded), mail, reason))
    return [*(Item(number, mail) for number, mail in enumerate(driven)), *excluded]


def counted(items: Iterable[Item]) -> tuple[list[Count], dict[str, int]]:
    """How many are to be driven by site and category, the most first; and how many are not, by reason."""
    counts: Counter[tuple[str, str]] = Counter()
    excluded: Counter[str] = Counter()
    for item in items:
        if item.excluded is None:
            counts[item.mail.site, item.mail.category] += 1
        else:
            excluded[item.excluded] += 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [Count(site, category, mails) for (site, category), mails in ordered], dict(excluded.most_common())


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a plan is driven. All but ``rate`` are fixed when it is first started: a mail that was driven one way must
    not be asked for another way when the driver is started again."""

    rate: str | None = None
    """Mails a time, such as ``100/s``."""
    egress: str | None = None
    template_version: int | None = None
    priority: Priority | None = None

    def fixed(self) -> Options:
        """Without what may change."""
        return msgspec.structs.replace(self, rate=None)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of a plan: one row of the audit, and what its drivers obey.

    ``run`` names the driver that a start or resume began. ``host`` is the machine, ``by`` who.
    """

    plan_id: str
    action: Action
    by: str
    host: str
    at: datetime
    run: str = ""
    options: Options = Options()
    note: str = ""


class Standing(msgspec.Struct, frozen=True):
    """How a plan stands after all that was said of it."""

    state: State
    run: str = ""
    """The driver that is, or was last, in charge."""
    options: Options | None = None
    """Those of the latest start; None before the first."""


def standing(words: Sequence[Word]) -> Standing:
    """What follows from the words on one plan, in the order they were stored. After an end nothing counts any more."""
    found = Standing("planned")
    for word in words:
        if found.state in _ENDED:
            break
        if word.action in ("stopped", "done") and word.run != found.run:
            # A driver that another has taken over from says nothing about the plan any more.
            continue
        began = word.action in ("start", "resume")
        found = Standing(
            _AFTER[word.action], word.run if began else found.run, word.options if began else found.options
        )
    return found


def seconds_needed(
    mails: Mapping[str, int], rates: Mapping[str, Rate | None], rate: Rate | None = None
) -> tuple[float, str]:
    """How long the mails of each site take at its rate, side by side, and which is the last to be done.

    A site without a rate takes no time of its own. ``rate`` is the driver's, over all of them.
    """
    slowest, name = 0.0, ""
    for site, count in mails.items():
        limit = rates.get(site)
        if limit is not None and count * limit.interval > slowest:
            slowest, name = count * limit.interval, site
    own = sum(mails.values()) * rate.interval if rate is not None else 0.0
    return (own, "--rate") if own > slowest else (slowest, name)
