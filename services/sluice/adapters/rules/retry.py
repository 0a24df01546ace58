"""``retry.toml`` → :class:`RetryRules`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluice.adapters.rules.reading import Problems, only, read_table
from sluice.domain.errors import RuleError
from sluice.domain.events import PRIORITIES
from sluice.domain.retry import Pace, RetryPolicy, RetryRules
from sluice.domain.shaping import parse_duration

FILE = "retry.toml"


class Schedule(msgspec.Struct, frozen=True):
    """The keys of a [schedule.…]."""

    delays: Annotated[tuple[str, ...], Meta(min_length=1)]
    lifetime: str
    jitter: Annotated[float, Meta(ge=0, le=0.9)] = 0.1


class Hints(msgspec.Struct, frozen=True):
    """The keys of [hints]."""

    least: str = "5s"
    most: str = "4h"


class Changed(msgspec.Struct, frozen=True):
    """The keys of a [pace.…]."""

    delays: tuple[str, ...] = ()
    at_least: str = "0s"


class Chosen(msgspec.Struct, frozen=True):
    """The keys of [priority]: which schedule each follows."""

    high: str
    normal: str
    bulk: str


def build_retry(layers: list[dict[str, Any]], problems: Problems) -> RetryRules:
    """Put layers together, the strongest last: a table replaces the one of the same name."""
    merged: dict[str, dict[str, Any]] = {"schedule": {}, "priority": {}, "hints": {}, "pace": {}}
    for tables in layers:
        only(tables, set(merged), FILE, problems)
        for name in merged:
            table = tables.get(name, {})
            if isinstance(table, dict):
                merged[name] |= table
            else:
                problems.add(f"{FILE}: {name}", "a table is needed here")
    hints = read_table(Hints, merged["hints"], f"{FILE}: hints", problems) or Hints()
    least = _seconds(hints.least, f"{FILE}: hints.least", problems)
    most = _seconds(hints.most, f"{FILE}: hints.most", problems)
    if most < least:
        problems.add(f"{FILE}: hints.most", "is shorter than hints.least")
    policies, lifetimes = _schedules(merged["schedule"], (least, most), problems)
    rules = RetryRules({}, {}, _paces(merged["pace"], problems))
    chosen = read_table(Chosen, merged["priority"], f"{FILE}: priority", problems)
    for priority in PRIORITIES if chosen is not None else ():
        name = getattr(chosen, priority)
        if name in policies:
            rules.schedules[priority] = policies[name]
            rules.lifetimes[priority] = lifetimes[name]
        elif name not in merged["schedule"]:
            problems.add(f"{FILE}: priority.{priority}", f"there is no [schedule.{name}]")
    return rules


def _schedules(
    tables: dict[str, Any], hints: tuple[float, float], problems: Problems
) -> tuple[dict[str, RetryPolicy], dict[str, float]]:
    policies: dict[str, RetryPolicy] = {}
    lifetimes: dict[str, float] = {}
    for name, table in tables.items():
        where = f"{FILE}: schedule.{name}"
        schedule = read_table(Schedule, table, where, problems)
        if schedule is not None:
            delays = _delays(schedule.delays, f"{where}.delays", problems)
            policies[name] = RetryPolicy(delays, schedule.jitter, *hints)
            lifetimes[name] = _seconds(schedule.lifetime, f"{where}.lifetime", problems)
    return policies, lifetimes


def _paces(tables: dict[str, Any], problems: Problems) -> dict[str, Pace]:
    paces: dict[str, Pace] = {}
    for name, table in tables.items():
        where = f"{FILE}: pace.{name}"
        changed = read_table(Changed, table, where, problems)
        if changed is not None:
            paces[name] = Pace(
                _delays(changed.delays, f"{where}.delays", problems),
                _seconds(changed.at_least, f"{where}.at_least", problems),
            )
    return paces


def _delays(texts: tuple[str, ...], where: str, problems: Problems) -> tuple[float, ...]:
    delays: list[float] = []
    for text in texts:
        with problems.at(where):
            delay = parse_duration(text)
            if delay < 1:
                raise RuleError(f"{text!r} would try again almost at once; a second is the least")
            delays.append(delay)
    return tuple(delays)


def _seconds(text: str, where: str, problems: Problems) -> float:
    with problems.at(where):
        return parse_duration(text)
    return 0.0
