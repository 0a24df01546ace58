"""What happens to traffic when a kind of reply was seen, at once or a number of times in a period.

The knowledge lies in ``rules/triggers.toml``; this is how it is counted. A lane keeps one :class:`TriggerState` and
asks :meth:`Triggers.update` after every attempt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from sluice.domain.bounce import Category, Verdict
from sluice.domain.conditions import Conditions, Matcher, check_conditions, phase_of
from sluice.domain.errors import RuleError
from sluice.domain.smtp import Result

TriggerAction = Literal[
    "suspend_lane", "lower_rate", "lower_connections", "switch_egress", "suspend_tenant", "suspend_campaign"
]

SUBJECTS_KEPT = 1_000
"""Counters kept at once; beyond that the ones that saw nothing for longest are forgotten."""


class Trigger(Conditions, frozen=True, kw_only=True):
    """When ``count`` results matched within ``within`` seconds, ``action`` holds for ``lasts`` seconds.

    Beside the conditions of a rule, ``categories`` and ``rules`` (ids of bounce rules) look at the verdict.
    ``lower_rate`` multiplies the lane's rate by ``factor``; ``lower_connections`` leaves at most ``connections``.
    ``switch_egress`` has mails leave from ``egress``, or from the next of the pool when that is None. It counts each
    egress for itself, as ``suspend_tenant`` and ``suspend_campaign`` count each tenant and campaign; the others are
    about the lane. Matches while the action holds are not counted: what is on its way already is answered as before,
    and must not add up.
    """

    id: str
    action: TriggerAction
    lasts: float
    count: int = 1
    within: float | None = None
    factor: float | None = None
    connections: int | None = None
    egress: str | None = None
    categories: tuple[Category, ...] = ()
    rules: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """One attempt: what was answered, what it means, and whose mail it was."""

    result: Result
    verdict: Verdict
    site: str
    tenant: str = ""
    campaign: str = ""
    egress: str = ""


class Fired(msgspec.Struct, frozen=True):
    """A trigger's action holds until the time ``until``; ``subject`` is a tenant, campaign or egress, or empty."""

    trigger: Trigger
    subject: str
    until: float


class Effects(msgspec.Struct, frozen=True):
    """All that holds at a time, put together: times are None when nothing is suspended.

    ``switched`` maps an egress to the one instead of it, empty for the next of its pool. ``cuts`` are factors of the
    lane's rate, each with the time at which it ends.
    """

    lane_suspended_until: float | None = None
    cuts: tuple[tuple[float, float], ...] = ()
    connections: int | None = None
    switched: Mapping[str, str] = {}
    tenants: Mapping[str, float] = {}
    campaigns: Mapping[str, float] = {}

    @property
    def rate_factor(self) -> float:
        """The part of the lane's rate that all cuts together leave."""
        return math.prod(factor for factor, _ in self.cuts)


Subject = tuple[str, str]
"""The trigger's id and the tenant, campaign or egress it counts (empty for a lane)."""


class TriggerState(msgspec.Struct, frozen=True):
    """Times of the matches counted, oldest first, and what holds. An empty one is where everything starts."""

    counted: Mapping[Subject, tuple[float, ...]] = {}
    active: Mapping[Subject, Fired] = {}


class Triggers:
    """All triggers, compiled. Immutable. Raises :class:`RuleError` for one that cannot be followed."""

    def __init__(self, triggers: Iterable[Trigger] = ()) -> None:
        self.triggers = tuple(triggers)
        for trigger in self.triggers:
            check_trigger(trigger)
        self._compiled = [(trigger, Matcher(trigger)) for trigger in self.triggers]

    def update(self, state: TriggerState, seen: Seen, now: float) -> tuple[TriggerState, tuple[Fired, ...]]:
        """Count what was ``seen`` at time ``now``: (the new state, what begins to hold). Times never go backwards.

        The state is returned as it was when nothing matches, which is the usual case.
        """
        if seen.verdict.category is None:
            return state, ()
        matched = [trigger for trigger, matcher in self._compiled if _matches(trigger, matcher, seen)]
        if not matched:
            return state, ()
        counted = dict(state.counted)
        active = {subject: fired for subject, fired in state.active.items() if fired.until > now}
        begun: list[Fired] = []
        for trigger in matched:
            subject = _subject(trigger, seen)
            if subject is None or subject in active:
                continue
            since = now - (trigger.within or 0.0)
            times = (*(time for time in counted.pop(subject, ()) if time > since), now)
            if len(times) < trigger.count:
                counted[subject] = times
                continue
            fired = Fired(trigger, subject[1], now + trigger.lasts)
            active[subject] = fired
            begun.append(fired)
        while len(counted) > SUBJECTS_KEPT:
            del counted[next(iter(counted))]
        return TriggerState(counted, active), tuple(begun)

    def restore(self, held: Iterable[tuple[str, str, float]], now: float) -> TriggerState:
        """A state in which triggers are in force, each told by id, subject and end; unknown ones are left out."""
        known = {trigger.id: trigger for trigger in self.triggers}
        active = {
            (name, subject): Fired(known[name], subject, until)
            for name, subject, until in held
            if name in known and until > now
        }
        return TriggerState({}, active)

    def carried(self, state: TriggerState) -> TriggerState:
        """A state that was kept under other triggers: what is in force goes on to its end as these say it, and ends
        with a trigger that is not among them, or does something else by now."""
        known = {trigger.id: trigger for trigger in self.triggers}
        active = {
            subject: msgspec.structs.replace(fired, trigger=known[fired.trigger.id])
            for subject, fired in state.active.items()
            if fired.trigger.id in known and known[fired.trigger.id].action == fired.trigger.action
        }
        return TriggerState({key: times for key, times in state.counted.items() if key[0] in known}, active)

    def effects(self, state: TriggerState, now: float) -> Effects:
        """What holds at time ``now``: factors multiply, the lowest connections and the latest ends win."""
        lane: float | None = None
        switched: dict[str, str] = {}
        cuts: list[tuple[float, float]] = []
        connections: int | None = None
        tenants: dict[str, float] = {}
        campaigns: dict[str, float] = {}
        for fired in sorted(state.active.values(), key=lambda fired: fired.until):
            if fired.until <= now:
                continue
            trigger = fired.trigger
            match trigger.action:
                case "suspend_lane":
                    lane = max(fired.until, lane or fired.until)
                case "switch_egress":
                    switched[fired.subject] = trigger.egress or ""
                case "lower_rate":
                    cuts.append((trigger.factor or 1.0, fired.until))
                case "lower_connections":
                    allowed = trigger.connections or 1
                    connections = allowed if connections is None else min(connections, allowed)
                case "suspend_tenant":
                    tenants[fired.subject] = max(fired.until, tenants.get(fired.subject, fired.until))
                case "suspend_campaign":
                    campaigns[fired.subject] = max(fired.until, campaigns.get(fired.subject, fired.until))
        return Effects(lane, tuple(cuts), connections, switched, tenants, campaigns)


def check_trigger(trigger: Trigger) -> None:
    """Raise :class:`RuleError` when ``trigger`` cannot be followed."""
    check_conditions(trigger)
    looks = (trigger.codes, trigger.enhanced, trigger.contains, trigger.text, trigger.reasons)
    if not any((*looks, trigger.categories, trigger.rules)):
        raise RuleError("a trigger without a condition on the reply or its verdict would fire at every failure")
    if trigger.count < 1 or trigger.lasts <= 0:
        raise RuleError("count must be at least 1, and lasts longer than nothing")
    if (trigger.count > 1) != (trigger.within is not None) or (trigger.within is not None and trigger.within <= 0):
        raise RuleError("within: needed exactly when count is more than 1, and longer than nothing")
    if (trigger.action == "lower_rate") != (trigger.factor is not None):
        raise RuleError("factor: belongs to lower_rate, which needs it")
    if trigger.factor is not None and not 0 < trigger.factor < 1:
        raise RuleError("factor: must lie between 0 and 1; to stop a lane, suspend it")
    if (trigger.action == "lower_connections") != (trigger.connections is not None):
        raise RuleError("connections: belongs to lower_connections, which needs it")
    if trigger.egress is not None and trigger.action != "switch_egress":
        raise RuleError("egress: belongs to switch_egress")
    if trigger.connections is not None and trigger.connections < 1:
        raise RuleError("connections: must be at least 1; to stop a lane, suspend it")


def _matches(trigger: Trigger, matcher: Matcher, seen: Seen) -> bool:
    if trigger.categories and seen.verdict.category not in trigger.categories:
        return False
    if trigger.rules and seen.verdict.rule not in trigger.rules:
        return False
    if trigger.categories or trigger.rules:
        # A verdict speaks for broken conversations too, which a condition on the place alone must not leave out.
        spoken = trigger.codes or trigger.enhanced or trigger.contains or trigger.text or trigger.reasons
        return matcher.matches(seen.result, seen.site) if spoken else matcher.about(phase_of(seen.result), seen.site)
    return matcher.matches(seen.result, seen.site)


def _subject(trigger: Trigger, seen: Seen) -> Subject | None:
    if trigger.action == "suspend_tenant":
        return (trigger.id, seen.tenant) if seen.tenant else None
    if trigger.action == "suspend_campaign":
        return (trigger.id, seen.campaign) if seen.campaign else None
    if trigger.action == "switch_egress":
        return (trigger.id, seen.egress)
    return (trigger.id, "")
