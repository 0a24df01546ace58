"""A frame of ``sluice watch``, drawn for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sluice.commands.output import duration
from sluice.commands.site_display import again
from sluice.commands.sparkline import sparkline
from sluice.commands.watch_frame import Frame, LaneRow, RateView
from sluice.commands.watch_window import SECONDS, Failure, SiteTimes

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_STYLES = {
    "delivered": "green", "deferred": "yellow", "throttled": "cyan", "bounced": "red", "expired": "red", "dead": "red",
    "in_doubt": "magenta", "held": "magenta", "rejected": "red", "complained": "red",
}  # fmt: skip
_LANES = {"suspended": "magenta", "paused": "red", "penalised": "red", "slowed": "yellow", "open": "green"}

_BESIDE = 15
"""Lines beside the rows: the heading, each table's head and the blank line before it, titles, and the last line."""


class Room(msgspec.Struct, frozen=True):
    """Rows that each list may have."""

    topics: int = 30
    lanes: int = 20
    sites: int = 10
    failures: int = 15


def room(height: int, frame: Frame) -> Room:
    """How a terminal of so many lines is shared out: rates and topics first, the rest in equal parts."""
    topics = len(frame.topics or ())
    left = height - _BESIDE - len(frame.rates) - topics - len(frame.problems)
    each = max(2, left // 3)
    return Room(topics, max(2, left - 2 * each), each, each)


def draw(frame: Frame, rows: Room) -> Group:
    """The whole of it."""
    from rich.console import Group
    from rich.text import Text

    made: list[Any] = [_heading(frame)]
    made += [Text(problem, "bold red") for problem in frame.problems]
    made += ["", _rates(frame)]
    if frame.topics:
        made += ["", _topics(frame, rows.topics)]
    if frame.lanes:
        made.append(_lanes(frame.lanes, rows.lanes, frame.at))
    if frame.slowest:
        made.append(_slowest(frame.slowest, rows.sites))
    if frame.failures:
        made.append(_failures(frame.failures, rows.failures))
    return Group(*made)


def _heading(frame: Frame) -> Any:
    from rich.text import Text

    chosen = [f"{name} {value}" for name, value in msgspec.structs.asdict(frame.filters).items() if value is not None]
    members = frame.workers.members or {}
    alive = "   ".join(f"{service} {count}" for service, count in members.items())
    nodes = "   ".join(f"{node} {rate:,.0f}/s" for node, rate in list(frame.workers.nodes.items())[:8])
    line = Text(f"{frame.at:%Y-%m-%d %H:%M:%S} UTC", "bold")
    for label, said in (("only", ", ".join(chosen)), ("processes", alive), ("outcomes by", nodes)):
        if said:
            line.append(f"   {label}: ", "dim").append(said, "")
    if frame.behind_s is not None:
        line.append(f"   reading outcomes of {duration(frame.behind_s * 1000)} ago", "yellow")
    return line


def _table(title: str, *columns: str) -> Table:
    """Columns whose name ends in ``>`` are aligned to the right."""
    from rich.table import Table

    made = Table(
        title=f"\n{title}" if title else "", title_justify="left", title_style="bold", box=None, pad_edge=False,
        padding=(0, 2, 0, 0), header_style="dim",
    )  # fmt: skip
    for column in columns:
        right = column.endswith(">")
        made.add_column(column.removesuffix(">"), justify="right" if right else "left", no_wrap=True)
    return made


def _rates(frame: Frame) -> Table:
    from rich.text import Text

    made = _table("", "mails", "per second>", f"the last {SECONDS} seconds", "most>")
    for kind, rate in frame.rates.items():
        most = max((value for value in rate.history if value is not None), default=None)
        made.add_row(
            Text(kind.replace("_", " "), _STYLES.get(kind, "")),
            _rate(rate),
            Text(sparkline(rate.history), _STYLES.get(kind, "")),
            "" if most is None else f"{most:,.0f}",
        )
    return made


def _rate(rate: RateView) -> str:
    return "" if rate.per_second is None else _number(rate.per_second)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _topics(frame: Frame, rows: int) -> Table:
    made = _table("", "topic", "read by", "not handled>", "oldest>", "in/s>", "out/s>")
    for topic in (frame.topics or [])[:rows]:
        oldest = duration(topic.oldest_s * 1000) if topic.oldest_s is not None else ""
        rates = (_number(topic.in_per_second), _number(topic.out_per_second))
        made.add_row(topic.topic, topic.read_by, f"{topic.lag:,}" if topic.read_by else "", oldest, *rates)
    return made


def _lanes(lanes: Sequence[LaneRow], rows: int, now: datetime) -> Table:
    from rich.text import Text

    heads = ("site", "lane", "state", "rate", "open>", "queued>", "sends again", "why", "until")
    cells = [_lane(row, now) for row in lanes[:rows]]
    # Nothing is held back: three columns less.
    kept = [place for place in range(len(heads)) if any(row[place] for row in cells)]
    made = _table(_title("lanes", lanes, rows), *(heads[place] for place in kept))
    for row in cells:
        made.add_row(*(Text(row[place], _LANES.get(row[place], "")) for place in kept))
    return made


def _lane(row: LaneRow, now: datetime) -> tuple[str, ...]:
    until = f"{row.until:%H:%M:%S}" if row.until is not None else ""
    lane = row.lane
    if lane is None:
        return (row.site, "", "suspended", "", "", "", "", row.why, until)
    return (
        row.site, lane.lane.rpartition("#")[2], lane.state, lane.rate, f"{lane.connections:,}", f"{lane.queued:,}",
        again(lane, now) if lane.sends != "now" else "", row.why[:70], until if lane.sends_at is None else "",
    )  # fmt: skip


def _slowest(sites: Sequence[SiteTimes], rows: int) -> Table:
    made = _table(
        _title("slowest sites, by the time of an attempt", sites, rows),
        "site", "half within>", "90% within>", "from publish, 90% within>", "waits for", "delivered>", "deferred>",
        "bounced>",
    )  # fmt: skip
    for one in sites[:rows]:
        made.add_row(
            one.site, duration(one.attempt_p50_ms), duration(one.attempt_p90_ms), duration(one.total_p90_ms),
            one.waits_for, f"{one.delivered:,}", f"{one.deferred:,}", f"{one.bounced:,}",
        )  # fmt: skip
    return made


def _failures(failures: Sequence[Failure], rows: int) -> Table:
    from rich.text import Text

    made = _table(
        _title("refusals and failures, the latest first", failures, rows),
        "last", "times>", "outcome", "site", "code>", "category", "rule", "tenant",
    )  # fmt: skip
    for one in failures[:rows]:
        made.add_row(
            f"{one.at:%H:%M:%S}", f"{one.times:,}", Text(one.what, _STYLES.get(one.what, "")), one.site,
            str(one.code or ""), one.category, one.rule, one.tenant,
        )  # fmt: skip
    return made


def _title(text: str, found: Sequence[object], rows: int) -> str:
    return text if len(found) <= rows else f"{text} ({rows} of {len(found):,})"
