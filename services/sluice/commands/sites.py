"""``sluice sites``: what receiving sites tolerate, how their lanes stand, and an operator's word on them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, warn
from sluice.commands.site_destination import find_destination
from sluice.commands.site_display import explanation, lanes_table, limits_table, overview, standing
from sluice.commands.site_facts import look, look_if_possible, site_called
from sluice.commands.site_limits import FILE, Limit, limits_of, listed_in
from sluice.commands.site_rules import (
    BOUNCES,
    TRIGGERS,
    applies_table,
    bounce_rules,
    leaving_lines,
    order,
    triggers,
    ways_out,
)
from sluice.commands.site_states import SiteView, disagreement
from sluice.commands.site_suspension import SiteName, resume, suspend
from sluice.domain.addresses import domain_to_ascii
from sluice.domain.priorities import Priorities
from sluice.domain.site import lane_number
from sluice.runtime import console_rules
from sluice.runtime.config import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="What receiving sites tolerate, how their lanes stand, and an operator's word on them. A site is the system "
    "behind a domain: domains with the same MX hosts are one.",
)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the sites that workers tell of, and those that are suspended: each lane, its state, when it sends again.

    A lane with nothing queued, nothing learnt and no connection open is left out.

    Example: [cyan]sluice sites list[/]
    """
    settings = load_settings()
    everything = console_rules.rules(settings)
    rules = everything.sites
    facts, now = look(settings), datetime.now(UTC)
    names = {lane_number(lane)[0] for lane in facts.heard} | set(facts.controls)
    views = [facts.view(rules.named(name), rules.penalty, now, quiet=False) for name in sorted(names)]
    views = [view for view in views if view.lanes or view.control]
    notes = [*facts.notes, *facts.silence(range(facts.partitions or 0)), *disagreement(views, everything.version)]
    if as_json:
        return print_json({"sites": views, "notes": notes})
    if views:
        console().print(overview(views, now))
    say(f"{len(views):,} sites; sluice sites show SITE tells one's limits" if views else "no site has anything to tell")
    return _add(notes)


@app.command()
def show(site: SiteName, as_json: AsJson = False) -> None:
    """Show a site: its limits and where they come from, its lanes, and when it will be sent to again.

    Without Kafka, what the rules say.

    Example: [cyan]sluice sites show google[/]
    """
    settings = load_settings()
    everything = console_rules.rules(settings)
    rules = everything.sites
    layers = console_rules.rule_layers(settings, FILE)
    found = rules.named(site_called(site, rules))
    facts, now = look_if_possible(settings), datetime.now(UTC)
    view = facts.view(found, rules.penalty, now)
    where, listed = listed_in(found.name, layers) or (None, {})
    limits = limits_of(found, layers)
    notes = [*facts.notes, *facts.silence(lane.partition for lane in view.lanes)]
    notes += disagreement([view], everything.version)
    belonging = {key: list(listed.get(key, ())) for key in ("domains", "mx")}
    if as_json:
        stands = msgspec.structs.asdict(view)
        return print_json({**stands, "listed_in": where, **belonging, "limits": limits, "notes": notes})
    say(found.name)
    say(f"  listed     {where or 'by no rule: it has the default limits'}")
    for key, names in belonging.items():
        if names:
            say(f"  {key:10} {', '.join(names)}")
    return _print(found.name, limits, view, notes, now)


@app.command()
def explain(
    domain: Annotated[str, typer.Argument(help="A recipient's domain.", metavar="DOMAIN")],
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask DNS for its MX hosts.")] = False,
    all_rules: Annotated[bool, typer.Option("--rules", help="List the bounce rules for any site, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say how mail to a domain goes: route, MX hosts, site and why, limits and where they come from, lanes, and when.

    And where it leaves from, whose turn it is, what replies mean there and what they set off. Without Kafka, what
    rules and DNS say.

    Example: [cyan]sluice sites explain gmail.com[/]
    """
    settings = load_settings()
    everything = console_rules.rules(settings)
    rules = everything.sites
    layers = console_rules.rule_layers(settings, FILE)
    found = find_destination(settings, rules, _ascii(domain), offline=offline)
    facts, now = look_if_possible(settings), datetime.now(UTC)
    member = found.membership
    site = member.site if member else rules.default
    view = facts.view(site, rules.penalty, now) if member else None
    where, _ = listed_in(site.name, layers) or (None, {})
    limits = limits_of(site, layers)
    notes = [*found.notes, *facts.notes, *facts.silence(lane.partition for lane in (view.lanes if view else ()))]
    notes += disagreement([view] if view else (), everything.version)
    replies = bounce_rules(everything, site.name, console_rules.rule_layers(settings, BOUNCES))
    counted = triggers(everything, site.name, console_rules.rule_layers(settings, TRIGGERS), view)
    ways = ways_out(console_rules.egresses(settings), site, everything, view)
    turns = order(Priorities.parse(settings.priority_weights, settings.priority_reserve), site)
    if as_json:
        return print_json(
            {
                **{key: getattr(found, key) for key in ("domain", "route", "mx")},
                "by": member and member.by,
                "match": member and member.match,
                **(msgspec.structs.asdict(view) if view else {"site": None, "sends": "unknown", "lanes": []}),
                "listed_in": where,
                "rules": everything.version,
                "limits": limits,
                "leaves_from": ways,
                "turns": turns,
                "bounce_rules": replies,
                "triggers": counted,
                "notes": notes,
            }
        )
    for line in (*explanation(found, where), *leaving_lines(ways, site, turns)):
        say(line)
    _print(site.name or "any site that no rule lists", limits, view, (), now)
    console().print(applies_table(counted, "triggers: what replies set off here", now))
    named = [rule for rule in replies if all_rules or rule.why == "names this site"]
    if named:
        console().print(applies_table(named, "bounce rules: what replies mean, the first that holds", now))
    if len(named) < len(replies):
        say(f"{len(replies) - len(named)} bounce rules are for any site: --rules lists them")
    return _add(notes)


app.command()(suspend)
app.command()(resume)


def _print(name: str, limits: Iterable[Limit], view: SiteView | None, notes: Iterable[str], now: datetime) -> None:
    for line in standing(view, now) if view else ():
        say(line)
    say("")
    console().print(limits_table(name, limits))
    if view:
        console().print(lanes_table(view, now))
    _add(notes)


def _add(notes: Iterable[str]) -> None:
    for note in notes:
        warn(f"sluice sites: {note}")


def _ascii(text: str) -> str:
    domain, problem = domain_to_ascii(text.strip().rpartition("@")[2].rstrip("."))
    if problem:
        raise WrongUsage(f"DOMAIN: {problem}")
    return domain
