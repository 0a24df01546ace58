"""``sluice status``: lag, rates, and how mail fares at each site."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sluice.commands.failures import answer_or_problem
from sluice.commands.flow import Look, TopicFlow, flows, look
from sluice.commands.moments import parse_moment
from sluice.commands.output import AsJson, console, duration, print_json, table, warn
from sluice.runtime import console as parts
from sluice.runtime.config import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Group as Renderables

    from sluice.adapters.clickhouse.queries import Equation, Queries, Scope, Site
    from sluice.adapters.kafka.survey import KafkaSurvey

_SAMPLE_S = 1.0
_STATES = ("delivered", "bounced", "suppressed", "rejected", "expired", "dead", "cancelled", "waiting")

_TOPIC_COLUMNS = ("topic", "records>", "read by", "processes>", "lag>", "in/s>", "out/s>")
_SITE_COLUMNS = (
    "site", "mails>", "delivered>", "deferred>", "waiting>", "bounced>", "expired>", "other>", "p50>", "p99>",
    "reason of most",
)  # fmt: skip


class Status(msgspec.Struct, frozen=True):
    """What is known at a moment. A part that could not be asked is None, and ``problems`` says why."""

    topics: list[TopicFlow] | None
    mails: Any
    sites: Any
    problems: list[str]


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until ctrl-c.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between refreshes.")] = 2.0,
    since: Annotated[str, typer.Option("--since", help="Mails with an outcome since: a moment, or 15m, 24h.")] = "24h",
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's mails.")] = None,
    top: Annotated[int, typer.Option("--sites", "-n", min=1, help="Most sites shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show each topic's records, lag and rate, and each site's mails, with the commonest reason of those not delivered.

    Exit code 1 when Kafka or ClickHouse cannot be asked; what can be is shown.

    Example: [cyan]sluice status --watch --since 15m[/]
    """
    settings = load_settings()
    now = datetime.now(UTC)
    span = now - _ago(since, now)
    survey = parts.survey(settings)
    with parts.queries(settings) as queries:
        before = answer_or_problem(lambda: look(_reached(settings, survey), time.monotonic()), [])
        while True:
            if before is not None:
                time.sleep(every if watch else _SAMPLE_S)
            found, before = _collect(survey, queries, before, _scope(datetime.now(UTC) - span, tenant), settings)
            if not watch:
                break
            _refresh(found, top)
            if before is None:
                time.sleep(every)
    if as_json:
        print_json(found)
    else:
        console().print(_shown(found, top))
    for problem in found.problems:
        warn(f"sluice status: {problem}")
    if found.problems:
        raise typer.Exit(1)


def _collect(
    survey: KafkaSurvey, queries: Queries, before: Look | None, scope: Scope, settings: Settings
) -> tuple[Status, Look | None]:
    problems: list[str] = []
    now = answer_or_problem(lambda: look(_reached(settings, survey), time.monotonic()), problems)
    mails = answer_or_problem(lambda: queries.equation(scope), problems)
    sites = answer_or_problem(lambda: queries.sites(scope), problems) if mails is not None else None
    return Status(flows(now, before) if now else None, mails, sites, problems), now


def _reached(settings: Settings, survey: KafkaSurvey) -> KafkaSurvey:
    parts.reach(settings)
    return survey


def _scope(since: datetime, tenant: str | None) -> Scope:
    from sluice.adapters.clickhouse.queries import Scope

    return Scope(since=since, tenant_id=tenant)


def _ago(text: str, now: datetime) -> datetime:
    """``15m`` means that long ago; a moment is itself."""
    moment = parse_moment(text, "--since", now)
    return moment if moment <= now else now - (moment - now)


def _refresh(found: Status, top: int) -> None:
    screen = console()
    screen.clear()
    screen.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; ctrl-c ends this\n")
    screen.print(_shown(found, top))
    for problem in found.problems:
        warn(problem)


def _shown(found: Status, top: int) -> Renderables:
    from rich.console import Group

    made: list[Any] = []
    if found.topics is not None:
        made.append(table(_TOPIC_COLUMNS, [_topic_row(flow) for flow in found.topics if _worth_a_row(flow)]))
    if found.mails is not None:
        made.append(equation_line(found.mails) + "\n")
    if found.sites:
        made.append(table(_SITE_COLUMNS, [_site_row(site) for site in found.sites[:top]]))
        if len(found.sites) > top:
            made.append(f"{len(found.sites) - top:,} more sites: --sites N")
    return Group(*made)


def equation_line(mails: Equation) -> str:
    """``accepted N = delivered A + …``, states with no mail left out."""
    counts = [f"{name} {count:,}" for name in _STATES if (count := getattr(mails, name))]
    return f"accepted {mails.accepted:,} = {' + '.join(counts) or 0}"


def _worth_a_row(flow: TopicFlow) -> bool:
    """The wheel's tiers in which nothing waits, and a dead letter topic without letters, only take room."""
    return flow.lag > 0 if flow.service == "wheel" else flow.records > 0 or bool(flow.service)


def _topic_row(flow: TopicFlow) -> tuple[object, ...]:
    members = flow.members if flow.service else None
    return flow.topic, flow.records, flow.service, members, flow.lag, _rate(flow.rate_in), _rate(flow.rate_out)


def _site_row(site: Site) -> tuple[object, ...]:
    counts = (site.mails, site.delivered, site.deferred, site.waiting, site.bounced, site.expired, site.other)
    return (site.site or "(none yet)", *counts, duration(site.p50_ms), duration(site.p99_ms), site.top_category)


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 or not value else f"{value:.1f}"
