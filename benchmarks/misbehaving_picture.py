"""The picture of a session against a misbehaving server."""

from __future__ import annotations

from collections import defaultdict

from misbehaving_figures import WINDOW, Counted, Session
from timeline_svg import Bars, Line, Panel, Phase, Point, Strips, timeline

CAUSES = (
    ("told to slow down", "#dc2626"),
    ("greylisted", "#7c3aed"),
    ("connection cut", "#0e7490"),
    ("reply made no sense", "#65a30d"),
    ("other", "#b45309"),
    ("waits its turn", "#9ca3af"),
)
"""Why a mail was put off, and its colour."""


def draw(session: Session) -> str:
    """The SVG."""
    until = max(span.ends for span in session.phases)
    until = max([until, *(each.second + 1.0 for each in session.outcomes if each.site)])
    phases = [Phase(span.name, span.begins, span.ends, span.name != "fine") for span in session.phases]
    delivered = _by_second([each for each in session.outcomes if each.site and each.event_type == "delivered"])
    causes: dict[str, dict[int, float]] = {name: {} for name, _ in CAUSES}
    for each in session.outcomes:
        if each.site and each.event_type == "deferred":
            values = causes[cause(each)]
            values[each.second] = values.get(each.second, 0.0) + each.count
    in_force = [(told.at, told.rate) for told in session.lane]
    if in_force:
        in_force = [(0.0, in_force[0][1]), *in_force, (until, in_force[-1][1])]
    site = Panel(
        title="storm.example",
        unit="mails per second",
        height=210,
        lines=(
            Line("rate in force", "#d97706", in_force, step=True, width=2.2),
            Line("delivered", "#3b82f6", [(s + 0.5, delivered.get(s, 0.0)) for s in range(int(until))]),
        ),
        strips=(Strips("paused: hosts not reached", "#dc2626", _pauses(session)),),
    )
    deferred = Panel(
        title="storm.example: put off",
        unit="mails per second",
        bars=[Bars(name, colour, causes[name]) for name, colour in CAUSES if causes[name]],
    )
    windows = [(window.second + WINDOW / 2, window) for window in session.latency]
    others = Panel(
        title="other sites: from publish to 250",
        unit="milliseconds",
        lines=(
            Line("99 % within", "#db2777", [(at, window.p99) for at, window in windows]),
            Line("half within", "#0d9488", [(at, window.p50) for at, window in windows]),
        ),
    )
    return timeline("A session against a misbehaving server", until, phases, [site, deferred, others])


def cause(each: Counted) -> str:
    """Which of :data:`CAUSES` a deferral is for."""
    if each.rule == "site.rate":
        return "told to slow down"
    if each.rule == "greylist":
        return "greylisted"
    if each.category == "throttled":
        return "waits its turn"
    if each.category in ("no_answer", "bad_connection"):
        return "connection cut"
    return "reply made no sense" if each.category == "protocol" else "other"


def _by_second(outcomes: list[Counted]) -> dict[int, float]:
    found: dict[int, float] = defaultdict(float)
    for each in outcomes:
        found[each.second] += each.count
    return found


def _pauses(session: Session) -> list[Point]:
    """Joined where they touch: a checkpoint tells only the pause of its moment."""
    spans: list[Point] = []
    for told in session.lane:
        if told.paused_for <= 0:
            continue
        ends = told.at + told.paused_for
        if spans and told.at <= spans[-1][1] + 0.5:
            spans[-1] = (spans[-1][0], max(ends, spans[-1][1]))
        else:
            spans.append((told.at, ends))
    return spans
