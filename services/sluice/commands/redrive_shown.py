"""Plans to drive mails again, as they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sluice.commands.output import duration, table, timestamp
from sluice.domain.errors import RuleError, SluiceError
from sluice.domain.lanes import LaneState
from sluice.domain.redrive import REASONS, Item, Options, Plan, Reason, Standing, Word, seconds_needed
from sluice.domain.shaping import Rate
from sluice.domain.site import Site, lane_number
from sluice.ports.redrive import Progress, Results
from sluice.runtime import console_redrive as redrive
from sluice.runtime import console_rules
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from rich.table import Table

SITES = 20
"""Rows shown by site and category; the rest are added up."""


class Estimate(msgspec.Struct, frozen=True):
    """How long the mails take at what sites allow now, all sites side by side; ``slowest`` is the last to be done."""

    seconds: float
    slowest: str
    learnt: bool
    """Whether workers told of their lanes; otherwise it is reckoned from the rules alone."""


class Overview(msgspec.Struct, frozen=True):
    """How a plan stands. ``driven`` are in Kafka; ``skipped`` turned out not to be driven, by reason."""

    plan: str
    state: str
    tenant: str
    mails: int
    driven: int
    skipped: dict[str, int]
    left: int
    created_at: datetime
    created_by: str
    predicate: str
    options: Options | None = None
    noted_at: datetime | None = None
    """When the last batch was driven: a plan that is running, and has not been for long, has lost its driver."""


class Sample(msgspec.Struct, frozen=True):
    """One mail of a plan's list."""

    message_id: str
    tenant: str
    state: str
    site: str
    category: str
    excluded: Reason | None


def overview(plan: Plan, stands: Standing, progress: Progress) -> Overview:
    """A plan in one line."""
    skipped = sum(progress.skipped.values())
    return Overview(
        plan.plan_id,
        stands.state,
        plan.tenant_id,
        plan.mails,
        progress.next - skipped,
        progress.skipped,
        plan.mails - progress.next,
        plan.created_at,
        plan.created_by,
        plan.predicate,
        stands.options,
        progress.at,
    )


def estimate(settings: Settings, plan: Plan, rate: Rate | None = None) -> Estimate:
    """How long a plan takes at the present ceilings: what workers tell of their lanes, else the rules."""
    rules = console_rules.rules(settings).sites
    lanes: dict[str, LaneState] = {}
    try:
        lanes = dict(redrive.lanes(settings))
    except SluiceError:
        lanes = {}
    mails: Counter[str] = Counter()
    for count in plan.counts:
        mails[count.site] += count.mails
    rates = {site: ceiling(rules.named(site), lanes) for site in mails if site}
    seconds, slowest = seconds_needed(mails, rates, rate)
    return Estimate(round(seconds, 1), slowest, bool(lanes))


def ceiling(site: Site, lanes: dict[str, LaneState]) -> Rate | None:
    """What a site takes by now: the sum of its lanes' rates, of which those that tell of none have their share."""
    told = {name: state for name, state in lanes.items() if lane_number(name)[0] == site.name}
    if site.rate is None and not any(_rate(state) for state in told.values()):
        return None
    share = site.rate.count / site.rate.per / site.lanes if site.rate else 0.0
    slower = [rate.count / rate.per if (rate := _rate(state)) else share for state in told.values()]
    a_second = sum(slower) + share * max(0, site.lanes - len(told))
    return Rate(a_second, 1.0) if a_second > 0 else site.rate


def _rate(state: LaneState) -> Rate | None:
    try:
        return Rate.parse(state.rate) if state.rate and state.rate != "unlimited" else None
    except RuleError:
        return None


def sample_rows(items: Sequence[Item], count: int) -> list[Sample]:
    """Some of those to be driven, and some of each reason's."""
    taken: Counter[Reason | None] = Counter()
    rows = []
    for item in items:
        if taken[item.excluded] < count:
            taken[item.excluded] += 1
            mail = item.mail
            rows.append(Sample(mail.message_id, mail.tenant_id, mail.state, mail.site, mail.category, item.excluded))
    return rows


def plan_tables(plan: Plan, sample: Iterable[Sample], needed: Estimate) -> Iterator[Table | str]:
    """What a new plan is told by."""
    rows = [(count.mails, count.site or "(none yet)", count.category) for count in plan.counts[:SITES]]
    if rest := sum(count.mails for count in plan.counts[SITES:]):
        rows.append((rest, f"and {len(plan.counts) - SITES:,} more", ""))
    if rows:
        yield table(("mails>", "site", "category"), rows, title="To be driven")
    if plan.excluded:
        excluded = [(count, reason, REASONS.get(reason, "")) for reason, count in plan.excluded.items()]  # type: ignore[call-overload]
        yield table(("mails>", "reason", "meaning"), excluded, title="Selected, and left out")
    shown = [(s.message_id, s.tenant, s.state, s.site, s.category, s.excluded or "") for s in sample]
    if shown:
        yield table(("mail", "tenant", "state", "site", "category", "left out"), shown, title="Some of them")
    if plan.mails:
        known = "" if needed.learnt else " (by the rules: no worker tells of its lanes)"
        if needed.seconds:
            yield f"at the present ceilings about {duration(needed.seconds * 1000)}, {needed.slowest} last{known}"
        else:
            yield f"no site's rate holds them up{known}"


def status_tables(plan: Plan, shown: Overview, results: Results, words: Sequence[Word]) -> Iterator[Any]:
    """What a plan's status is told by."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), auto_refresh=False)
    bar.add_task(f"{plan.plan_id} {shown.state}", total=max(1, plan.mails), completed=plan.mails - shown.left)
    yield bar.get_renderable()
    facts: list[tuple[str, int]] = [("driven", shown.driven), ("left", shown.left)]
    facts += [(f"left out at last: {reason}", count) for reason, count in shown.skipped.items()]
    facts += [(f"by now {state}", count) for state, count in sorted(results.states.items())]
    if results.repeats:
        facts.append(("asked for twice, driven once", results.repeats))
    yield table(("what", "mails>"), facts)
    if shown.state == "running" and shown.noted_at is not None:
        yield f"the last batch was driven at {timestamp(shown.noted_at)}; if no driver runs: sluice redrive start"
    rows = [(w.at, w.action, w.by, w.host, w.run, options_text(w), w.note) for w in words]
    yield table(("at", "what", "by", "host", "driver", "options", "note"), rows)


def options_text(word: Word) -> str:
    """``rate=100/s egress=cold``, without what is not given."""
    given = msgspec.to_builtins(word.options)
    return " ".join(f"{name}={value}" for name, value in given.items())
