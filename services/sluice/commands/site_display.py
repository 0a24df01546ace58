"""A site in words and tables, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sluice.commands.output import duration, table, timestamp
from sluice.commands.site_destination import Destination
from sluice.commands.site_limits import Limit
from sluice.commands.site_states import LaneView, SiteView
from sluice.commands.site_suspension import said

if TYPE_CHECKING:
    from rich.table import Table

_OVERVIEW = (
    "site", "lane", "state", "rate in force", "open>", "queued>", "sends again", "why", "node", "told",
)  # fmt: skip
_LANES = (
    "lane", "partition>", "share of rate", "connections>", "state", "rate in force", "open>", "queued>", "sends again",
    "why", "node", "told",
)  # fmt: skip


def overview(views: Sequence[SiteView], now: datetime) -> Table:
    """A row for each lane, and one for each suspended site without any."""
    rows: list[tuple[object, ...]] = []
    for view in views:
        rows += [
            (
                view.site,
                lane.lane.rpartition("#")[2],
                lane.state,
                lane.rate,
                lane.connections,
                lane.queued,
                again(lane, now),
                lane.why,
                lane.node,
                _told(lane, now),
            )
            for lane in view.lanes
        ]
        if not view.lanes and view.control is not None:
            why = f"{view.control.reason} ({view.control.by})"
            rows.append((view.site, "", "suspended", "", 0, 0, again(view, now), why, "", ""))
    return _without_empty(_OVERVIEW, rows)


def limits_table(of: str, limits: Iterable[Limit]) -> Table:
    """Limits and where they come from."""
    rows = [(limit.name, limit.value, limit.source) for limit in limits]
    return table(("limit", "value", "from"), rows, title=f"limits of {of}, all workers and lanes together")


def lanes_table(view: SiteView, now: datetime) -> Table:
    """The lanes, with what each may do and how it stands."""
    rows = [
        (
            lane.lane,
            lane.partition,
            lane.share,
            lane.connections_allowed,
            lane.state,
            lane.rate,
            lane.connections,
            lane.queued,
            again(lane, now),
            lane.why,
            lane.node,
            _told(lane, now),
        )
        for lane in view.lanes
    ]
    return _without_empty(_LANES, rows, title="lanes: a mail takes one by its id; each has its part of the limits")


def explanation(found: Destination, listed: str | None) -> list[str]:
    """How mail to a domain goes, up to its site. ``listed`` is the file that lists the site, if one does."""
    route = found.route
    if route.kind == "mx":
        way = "by its MX hosts"
    else:
        way = f"{'through the relay' if route.kind == 'relay' else 'always to'} {route.host}:{route.port}"
        way += f", tls {route.tls}" if route.tls else ""
    lines = [found.domain, f"  route      {way}"]
    if found.mx.hosts:
        hosts = ", ".join(f"{host.preference} {host.host}" for host in found.mx.hosts)
        lines.append(f"  MX hosts   {hosts}{' (no MX record: its own address)' if found.mx.implicit else ''}")
    elif route.kind == "mx":
        lines.append(f"  MX hosts   {found.mx.answer.replace('_', ' ')}")
    member = found.membership
    if member is None:
        return [*lines, "  site       not known without its MX hosts"]
    why = {
        "domain": f"the rules name the domain, as {member.match}",
        "mx": f"the rules name its MX hosts, as {member.match}",
        "rollup": "its MX set, called after its first host; all domains with the same hosts are this site",
        "itself": "a site of its own",
    }[member.by]
    return [*lines, f"  site       {member.site.name}: {why}" + (f" ({listed})" if listed else "")]


def standing(view: SiteView, now: datetime) -> list[str]:
    """When a site will be sent to again, and an operator's word on it."""
    lines = [f"  sends      {again(view, now)}"]
    if view.control is not None:
        lines += [f"  suspended  {said(view.control).removeprefix('suspended ')}"]
        lines += [f"  undo       sluice sites resume {view.site}"]
    return lines


def again(view: SiteView | LaneView, now: datetime) -> str:
    """``now``, ``when resumed``, or a moment and how long until then."""
    if view.sends_at is None:
        return view.sends.replace("_", " ")
    return f"{timestamp(view.sends_at)}, in {duration(max(0.0, (view.sends_at - now).total_seconds()) * 1000)}"


def _without_empty(columns: Sequence[str], rows: Sequence[tuple[object, ...]], title: str | None = None) -> Table:
    """A table without the columns in which nothing stands: there are more than a terminal is wide."""
    kept = [place for place in range(len(columns)) if any(row[place] not in (None, "") for row in rows)]
    return table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], title=title)


def _told(lane: LaneView, now: datetime) -> str:
    if lane.told_at is None:
        return ""
    age = duration(max(0.0, (now - lane.told_at).total_seconds()) * 1000)
    return f"{age} ago{': old' if lane.stale else ''}"
