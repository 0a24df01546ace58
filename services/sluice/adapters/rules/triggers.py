"""``triggers.toml`` → :class:`Triggers`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluice.adapters.rules.reading import Problems, only, read_tables
from sluice.domain.bounce import Category
from sluice.domain.errors import RuleError
from sluice.domain.shaping import parse_duration
from sluice.domain.smtp import Phase
from sluice.domain.triggers import Trigger, TriggerAction, Triggers, check_trigger

FILE = "triggers.toml"
Texts = tuple[Annotated[str, Meta(min_length=1)], ...]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a [[trigger]]; as :class:`Trigger`, with durations as text. ``disabled`` takes one away."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    action: TriggerAction | None = None
    lasts: str | None = None
    count: int = 1
    within: str | None = None
    factor: float | None = None
    connections: int | None = None
    egress: Annotated[str, Meta(min_length=1)] | None = None
    codes: Texts = ()
    enhanced: Texts = ()
    contains: Texts = ()
    text: str | None = None
    phases: tuple[Phase, ...] = ()
    sites: Texts = ()
    reasons: Texts = ()
    categories: tuple[Category, ...] = ()
    rules: Texts = ()
    disabled: bool = False


def build_triggers(
    layers: list[dict[str, Any]], problems: Problems, *, sites: set[str] | None, rules: set[str] | None
) -> Triggers:
    """Put layers together, the strongest last: its triggers replace those of the same id.

    ``sites`` and ``rules`` are the names that triggers may use; None when they are not known.
    """
    listed: dict[str, tuple[str, Listed]] = {}
    for tables in layers:
        only(tables, {"trigger"}, FILE, problems)
        own = read_tables(Listed, tables.get("trigger", []), f"{FILE}: trigger", problems, name="id")
        listed |= {given.id: (place, given) for place, given in own}
    triggers: list[Trigger] = []
    for place, given in listed.values():
        if given.disabled:
            continue
        with problems.at(place):
            trigger = _trigger(given)
            check_trigger(trigger)
            triggers.append(trigger)
        for site in given.sites:
            if sites is not None and site not in sites:
                problems.add(f"{place}.sites", f"sites.toml has no site named {site}")
        for rule in given.rules:
            if rules is not None and rule not in rules:
                problems.add(f"{place}.rules", f"bounces.toml has no rule with the id {rule}")
    problems.raise_all()
    return Triggers(triggers)


def _trigger(given: Listed) -> Trigger:
    values = msgspec.structs.asdict(given)
    del values["disabled"]
    if given.action is None or given.lasts is None:
        raise RuleError("action and lasts are needed, unless the trigger is disabled")
    values["lasts"] = _seconds("lasts", given.lasts)
    values["within"] = None if given.within is None else _seconds("within", given.within)
    return Trigger(**values)


def _seconds(key: str, text: str) -> float:
    try:
        return parse_duration(text)
    except RuleError as error:
        raise RuleError(f"{key}: {error}") from error
