"""What ``sluice watch`` shows at one moment, as values: put together here, drawn elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from sluice.commands.flow import Look, TopicFlow, flows
from sluice.commands.groups import GROUPS, group_name
from sluice.commands.site_states import LaneView, SiteView
from sluice.commands.watch_window import OVER, SECONDS, Failure, Filters, SiteTimes, Window, per_second
from sluice.domain.adaptive import THROTTLED
from sluice.domain.topics import SEND

ALWAYS = ("published", "composed", "delivered", "deferred", "bounced")
"""Rates that are shown though they are nothing."""
ALSO = (
    THROTTLED, "suppressed", "rejected", "expired", "in_doubt", "held", "dead", "complained", "unsubscribed", "opened",
    "clicked",
)  # fmt: skip
"""Those that are shown when there is any in the window."""


class RateView(msgspec.Struct, frozen=True):
    """What happens per second, over the last ten seconds; None when it cannot be told. ``history`` is a value per
    second of the last minute, the oldest first, None for what was not seen."""

    per_second: float | None
    history: list[float | None]


class TopicView(msgspec.Struct, frozen=True, kw_only=True):
    """A topic: records not handled, the age in seconds of the oldest of them, and records per second in and out."""

    topic: str
    read_by: str
    lag: int
    oldest_s: float | None
    in_per_second: float | None
    out_per_second: float | None


class LaneRow(msgspec.Struct, frozen=True):
    """A lane and its site; a suspended site without a lane that is told of has none."""

    site: str
    lane: LaneView | None
    why: str
    until: datetime | None


class Workers(msgspec.Struct, frozen=True):
    """Members of each service's group (None: not known), and outcomes per second of each node that wrote any."""

    members: dict[str, int] | None
    nodes: dict[str, float]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A moment. ``topics`` and ``lanes`` are None when they could not be asked; ``problems`` says why.

    ``behind_s`` is how long ago the latest outcome that was read had been written, while there are more to read.
    """

    at: datetime
    filters: Filters
    rates: dict[str, RateView]
    topics: list[TopicView] | None
    lanes: list[LaneRow] | None
    slowest: list[SiteTimes]
    failures: list[Failure]
    workers: Workers
    behind_s: float | None
    problems: list[str]


class Published:
    """Send events per second, from how far their topics have come at one look after the other."""

    def __init__(self, filters: Filters) -> None:
        known = filters.site is None and filters.tenant is None
        self._topics = [topic for priority, topic in SEND.items() if filters.priority in (None, priority)]
        self._ends: deque[tuple[float, int]] = deque(maxlen=2 * SECONDS)
        self._known = known

    def take(self, look: Look) -> None:
        """Add a look."""
        self._ends.append((look.at, sum(look.end.get(topic, 0) for topic in self._topics)))

    def rate(self, now: float) -> RateView:
        """Now, monotonic as the looks are. A site's or a tenant's share of what is published is not known."""
        if not self._known or len(self._ends) < 2:
            return RateView(None, [None] * SECONDS)
        last, before = self._ends[-1], self._ends[-2]
        first = next((each for each in self._ends if last[0] - each[0] <= OVER and each is not last), before)
        return RateView(_per_second(first, last), [self._between(now - ago) for ago in range(SECONDS, 0, -1)])

    def _between(self, at: float) -> float | None:
        """The rate between the two looks that a moment lies between."""
        ends = list(self._ends)
        for before, after in pairwise(ends):
            if before[0] <= at < after[0]:
                return _per_second(before, after)
        return None


def _per_second(before: tuple[float, int], after: tuple[float, int]) -> float | None:
    seconds = after[0] - before[0]
    return round(max(0.0, (after[1] - before[1]) / seconds), 2) if seconds > 0 else None


def rates(window: Window, published: RateView, now: float) -> dict[str, RateView]:
    """Each kind of outcome, those that matter first."""
    there = window.kinds(now)
    made = {"published": published}
    for kind in (*ALWAYS[1:], *(kind for kind in ALSO if kind in there)):
        counts = window.counts(kind, now)
        made[kind] = RateView(per_second(counts), [float(count) for count in counts])
    return made


def topics(
    now: Look, before: Look | None, stored_at: Mapping[tuple[str, int], float], at: float, filters: Filters
) -> list[TopicView]:
    """Topics in the order of the way that mail takes; empty tiers of the wheel are left out."""
    oldest: dict[str, float] = {}
    for (topic, _), stored in stored_at.items():
        oldest[topic] = max(0.0, at - stored, oldest.get(topic, 0.0))
    return [
        TopicView(
            topic=flow.topic, read_by=flow.service, lag=flow.lag,
            oldest_s=round(oldest[flow.topic], 1) if flow.topic in oldest else None,
            in_per_second=_rounded(flow.rate_in), out_per_second=_rounded(flow.rate_out),
        )
        for flow in flows(now, before)
        if _shown(flow, filters)
    ]  # fmt: skip


def _shown(flow: TopicFlow, filters: Filters) -> bool:
    if flow.service == "wheel" and flow.lag == 0:
        return False
    if not flow.service and flow.records == 0:
        return False
    last = flow.topic.rpartition(".")[2]
    return filters.priority is None or flow.service not in ("compose", "deliver") or last == filters.priority


def lanes(views: Sequence[SiteView], filters: Filters) -> list[LaneRow]:
    """Lanes that something is to be told of, those that are held back first, then those with the most mail."""
    rows = []
    for view in views:
        if filters.site not in (None, view.site):
            continue
        rows += [LaneRow(view.site, lane, _why(lane), _until(lane)) for lane in view.lanes]
        if not view.lanes and view.control is not None:
            rows.append(LaneRow(view.site, None, f"{view.control.reason} ({view.control.by})", view.control.until))
    return sorted(rows, key=_order)


def _why(lane: LaneView) -> str:
    """What holds it back: what its state is for, and the triggers in force."""
    told = [f"trigger {name}{f' on {subject}' if subject else ''}" for name, subject, _ in lane.triggered]
    return "; ".join(part for part in (lane.why, *told) if part)


def _until(lane: LaneView) -> datetime | None:
    if lane.until is not None or not lane.triggered:
        return lane.until
    return datetime.fromtimestamp(max(until for _, _, until in lane.triggered), UTC)


_HELD_BACK = ("suspended", "paused", "penalised", "slowed")


def _order(row: LaneRow) -> tuple[int, int, int, str]:
    if row.lane is None:
        return (0, 0, 0, row.site)
    held = _HELD_BACK.index(row.lane.state) if row.lane.state in _HELD_BACK else len(_HELD_BACK) + (not row.why)
    return (held, -row.lane.queued, -row.lane.connections, row.lane.lane)


def workers(look: Look | None, window: Window, now: float) -> Workers:
    """Who is alive: groups' members by Kafka's word, nodes by their own."""
    return Workers(None if look is None else dict(look.members), window.nodes(now))


def nobody(members: Mapping[str, int] | None) -> list[str]:
    """Services that nobody runs, in words."""
    if members is None:
        return []
    return [
        f"nobody is in the group {group_name(service)}: no {service} runs" for service in GROUPS if not members[service]
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
