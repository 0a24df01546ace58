"""Which bounce rules and triggers are about a site, and why; and where its mail leaves from, in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from sluice.commands.output import duration, table, timestamp
from sluice.commands.site_limits import Layer
from sluice.commands.site_states import SiteView
from sluice.domain.bounce import BounceRule
from sluice.domain.conditions import Conditions
from sluice.domain.egress import Egresses
from sluice.domain.priorities import Priorities
from sluice.domain.rules import Rules
from sluice.domain.site import Site
from sluice.domain.triggers import Trigger

if TYPE_CHECKING:
    from rich.table import Table

BOUNCES, TRIGGERS = "bounces.toml", "triggers.toml"
SHOWN = 3
"""Literals of a condition that are shown; the file has the others."""

Why = Literal["names this site", "any site"]


class Held(msgspec.Struct, frozen=True):
    """A trigger in force in a lane, for a tenant, campaign or egress (empty for the lane)."""

    lane: str
    subject: str
    until: datetime


class Applies(msgspec.Struct, frozen=True, kw_only=True):
    """A rule or trigger that is about a site: ``why`` it is, ``when`` it holds, what it ``does``, where it stands."""

    id: str
    why: Why
    when: str
    does: str
    source: str
    in_force: list[Held] = []


class WayOut(msgspec.Struct, frozen=True, kw_only=True):
    """An egress that the site's mail may leave from; ``instead`` are lanes that leave from another one for now."""

    egress: str
    addresses: tuple[str, ...]
    ehlo: str
    pool: str
    instead: dict[str, str] = {}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of high, normal and bulk; of ``connections``, all lanes', so many are ``reserved`` for high."""

    weights: tuple[int, ...]
    reserved: int
    connections: int


def bounce_rules(rules: Rules, site: str, layers: Sequence[Layer]) -> list[Applies]:
    """The bounce rules that can decide at ``site``, in the order in which they are asked; the first that holds does."""
    return [
        Applies(
            id=rule.id,
            why="names this site" if rule.sites else "any site",
            when=", ".join(_conditions(rule)) or "always",
            does=_verdict(rule),
            source=_source(rule.id, "rule", layers),
        )
        for rule in rules.bounces.rules
        if not rule.sites or site in rule.sites
    ]


def triggers(rules: Rules, site: str, layers: Sequence[Layer], view: SiteView | None) -> list[Applies]:
    """The triggers that count at ``site``; those that name it come first."""
    held: dict[str, list[Held]] = {}
    for lane in view.lanes if view else ():
        for name, subject, until in lane.triggered:
            held.setdefault(name, []).append(Held(lane.lane, subject, datetime.fromtimestamp(until, UTC)))
    found = [trigger for trigger in rules.triggers.triggers if not trigger.sites or site in trigger.sites]
    return [
        Applies(
            id=trigger.id,
            why="names this site" if trigger.sites else "any site",
            when=_counted(trigger),
            does=_action(trigger),
            source=_source(trigger.id, "trigger", layers),
            in_force=held.get(trigger.id, []),
        )
        for trigger in sorted(found, key=lambda trigger: not trigger.sites)
    ]


def ways_out(egresses: Egresses, site: Site, rules: Rules, view: SiteView | None) -> list[WayOut]:
    """Where the mail of tenants without an egress of their own leaves from."""
    return [
        WayOut(
            egress=egress.name,
            addresses=egress.addresses,
            ehlo=egress.ehlo,
            pool=egress.pool,
            instead={
                lane.lane: egresses.instead(egress, switched).name
                for lane in (view.lanes if view else ())
                if egress.name in (switched := _switched(rules, lane.triggered))
            },
        )
        for egress in egresses.pool(site.egress)
    ]


def order(priorities: Priorities, site: Site) -> Order:
    """Whose turn it is at a site."""
    shares = [site.share(lane).connections for lane in range(site.lanes)]
    return Order(
        weights=priorities.weights,
        reserved=sum(priorities.reserved(share) for share in shares),
        connections=site.connections,
    )


def leaving_lines(ways: Iterable[WayOut], site: Site, turns: Order) -> list[str]:
    """Egress and order, in words."""
    lines = []
    for number, way in enumerate(ways):
        said = f"{way.egress}: from {', '.join(way.addresses) or 'any address'}, as {way.ehlo}"
        for lane, name in way.instead.items():
            said += f"; lane {lane.rpartition('#')[2]} leaves from {name} for now"
        lines.append(f"  {'' if number else 'leaves':10} {said}")
    why = f"sites.toml names {site.egress}" if site.egress else "neither tenant nor site names one"
    lines.append(f"  {'':10} ({why}; a tenant's own egress goes before)")
    weights = ":".join(map(str, turns.weights))
    kept = f"{turns.reserved} of {turns.connections} connections for high alone" if turns.reserved else "none to keep"
    return [*lines, f"  turns      high, normal, bulk as {weights}; {kept}"]


def applies_table(found: Sequence[Applies], title: str, now: datetime) -> Table:
    """Rules or triggers, one a row."""
    columns = ["id", "why", "when", "does", "from"]
    rows: list[tuple[object, ...]] = [(each.id, each.why, each.when, each.does, each.source) for each in found]
    if any(each.in_force for each in found):
        columns.append("in force")
        rows = [(*row, _in_force(each.in_force, now)) for row, each in zip(rows, found, strict=True)]
    return table(columns, rows, title=title)


def _switched(rules: Rules, triggered: Iterable[tuple[str, str, float]]) -> Mapping[str, str]:
    state = rules.triggers.restore(triggered, 0.0)
    return rules.triggers.effects(state, 0.0).switched


def _in_force(held: Sequence[Held], now: datetime) -> str:
    said = []
    for each in held:
        whose = f", {each.subject}" if each.subject else ""
        if each.until > now:
            said.append(f"lane {each.lane.rpartition('#')[2]}{whose} until {timestamp(each.until)}")
    return "; ".join(said)


def _source(name: str, key: str, layers: Sequence[Layer]) -> str:
    for where, tables in reversed(layers):
        if any(each.get("id") == name for each in tables.get(key, ())):
            return where
    return ""


def _counted(trigger: Trigger) -> str:
    said = _conditions(trigger)
    if trigger.categories:
        said.append(f"category {' or '.join(trigger.categories)}")
    if trigger.rules:
        said.append(f"bounce rule {' or '.join(trigger.rules)}")
    if trigger.count > 1 and trigger.within is not None:
        said.append(f"{trigger.count} times in {duration(trigger.within * 1000)}")
    return ", ".join(said)


def _conditions(given: Conditions) -> list[str]:
    said: list[str] = []
    if given.codes:
        said.append(f"code {' or '.join(given.codes)}")
    if given.enhanced:
        said.append(f"status {' or '.join(given.enhanced)}")
    if given.contains:
        more = f" or {len(given.contains) - SHOWN} more" if len(given.contains) > SHOWN else ""
        said.append("says " + " or ".join(f'"{each}"' for each in given.contains[:SHOWN]) + more)
    if given.text:
        said.append(f"matches {given.text}")
    if given.reasons:
        said.append(f"broken off: {' or '.join(given.reasons)}")
    if given.phases:
        said.append(f"at {' or '.join(given.phases)}")
    return said


def _verdict(rule: BounceRule) -> str:
    said: list[str] = [rule.category]
    if rule.action:
        said.append(rule.action)
    if rule.slow_down:
        said.append("slow down")
    if rule.suspend:
        said.append(f"pause for {duration(rule.suspend * 1000)}")
    if rule.pace:
        said.append(f"retry as {rule.pace}")
    return ", ".join(said)


def _action(trigger: Trigger) -> str:
    said = trigger.action.replace("_", " ")
    if trigger.factor is not None:
        said += f" to {trigger.factor:.0%}"
    if trigger.connections is not None:
        said += f" to {trigger.connections}"
    if trigger.action == "switch_egress":
        said += f" to {trigger.egress or 'the next of its pool'}"
    return f"{said} for {duration(trigger.lasts * 1000)}"
