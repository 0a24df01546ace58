"""How a site's lanes stand at a moment, from the rules, what operators say, and what workers last told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from sluice.domain.adaptive import Give
from sluice.domain.lanes import FOREVER, LaneState
from sluice.domain.reference import SiteControl
from sluice.domain.site import Penalty, Site, lane_name, lane_number, lane_partition

STALE_S = 10.0
"""A worker tells of a lane every two seconds, for as long as there is something to tell."""
_GIVE = Give()

State = Literal["suspended", "paused", "penalised", "slowed", "open", "idle", "unknown"]
"""Suspended by an operator; paused after replies or failed connections; under the penalty's allowance; cut after the
site asked for less; open with mail or connections; with nothing to tell; or unknown, for lack of Kafka."""

Sends = Literal["now", "later", "when_resumed", "unknown"]
_ORDER: tuple[Sends, ...] = get_args(Sends)

Heard = tuple[LaneState, float]
"""What was told of a lane, and when, seconds since the epoch."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A lane. ``until`` is when ``state`` ends by itself; ``sends_at`` when it sends again, if ``sends`` is later.

    ``share`` is what the rules give it, ``rate`` what is in force. ``triggered`` are triggers in force: id, subject
    (empty for the lane), and until when. ``stale`` says that what was told is old: nobody seems to own the lane.
    """

    lane: str
    partition: int | None
    state: State
    why: str
    until: datetime | None
    sends: Sends
    sends_at: datetime | None
    share: str
    rate: str
    connections_allowed: int
    connections: int
    queued: int
    node: str
    told_at: datetime | None
    stale: bool
    rules: str = ""
    """Version of the rules that its worker follows."""
    triggered: tuple[tuple[str, str, float], ...] = ()


class SiteView(msgspec.Struct, frozen=True, kw_only=True):
    """A site: the operator's word in force, its lanes, and when the first of them will send again, as in theirs."""

    site: str
    control: SiteControl | None
    sends: Sends
    sends_at: datetime | None
    lanes: list[LaneView]


def in_force(control: SiteControl | None, now: datetime) -> SiteControl | None:
    """The control, unless there is none or its time is over."""
    return None if control is None or (control.until is not None and control.until <= now) else control


def view_site(
    site: Site,
    *,
    heard: Mapping[str, Heard],
    partitions: int | None,
    control: SiteControl | None,
    penalty: Penalty,
    now: datetime,
    quiet: bool = True,
) -> SiteView:
    """A site at ``now``. Without ``quiet``, lanes of which nothing was told are left out."""
    control = in_force(control, now)
    numbers = {number for number in range(site.lanes) if quiet or lane_name(site.name, number) in heard}
    numbers |= {number for name, number in map(lane_number, heard) if name == site.name}
    lanes = [_view_lane(site, number, heard, partitions, control, penalty, now) for number in sorted(numbers)]
    sends, sends_at = _soonest(lanes) if lanes else _when(control is not None, control.until if control else None)
    return SiteView(site=site.name, control=control, sends=sends, sends_at=sends_at, lanes=lanes)


def disagreement(views: Iterable[SiteView], version: str) -> list[str]:
    """A note for each worker that follows other rules than those of ``version``, which this command has read."""
    other = {(lane.node, lane.rules) for view in views for lane in view.lanes if lane.rules and not lane.stale}
    return [
        f"{node} follows rules {rules}; those read here are {version}"
        for node, rules in sorted(other)
        if rules != version
    ]


def _soonest(lanes: Sequence[LaneView]) -> tuple[Sends, datetime | None]:
    first = min(lanes, key=lambda lane: (_ORDER.index(lane.sends), lane.sends_at.timestamp() if lane.sends_at else 0.0))
    return first.sends, first.sends_at


def _when(halted: bool, until: datetime | None) -> tuple[Sends, datetime | None]:
    if not halted:
        return "now", None
    return ("when_resumed", None) if until is None else ("later", until)


def _view_lane(
    site: Site,
    number: int,
    heard: Mapping[str, Heard],
    partitions: int | None,
    control: SiteControl | None,
    penalty: Penalty,
    now: datetime,
) -> LaneView:
    name = lane_name(site.name, number)
    told, at = heard.get(name, (LaneState(), None))
    stale = at is not None and now.timestamp() - at > STALE_S
    plain = site.share(number)
    state, why, until = _state(told, control, now.timestamp())
    share = penalty.apply(plain) if state == "penalised" else plain
    halted = state in ("suspended", "paused")
    sends, sends_at = _when(halted, _moment(until)) if partitions is not None else ("unknown", None)
    return LaneView(
        lane=name,
        partition=None if partitions is None else lane_partition(name, partitions),
        state=state if partitions is not None else "unknown",
        why=why,
        until=_moment(until),
        sends=sends,
        sends_at=sends_at,
        share=str(plain.rate) if plain.rate else "unlimited",
        rate=told.rate if told.rate and not stale else str(share.rate) if share.rate else "unlimited",
        connections_allowed=max(1, round(share.connections * told.pressure.share_at(now.timestamp(), _GIVE))),
        connections=told.connections,
        queued=told.queued,
        node=told.node,
        told_at=_moment(at),
        stale=stale,
        rules=told.rules,
        triggered=tuple(each for each in told.triggered if each[2] > now.timestamp()),
    )


def _state(told: LaneState, control: SiteControl | None, now: float) -> tuple[State, str, float | None]:
    """The state, why, and until when; what halts a lane for longest comes first, as in deliver."""
    if control is not None:
        until = FOREVER if control.until is None else control.until.timestamp()
        if until >= told.paused_until:
            return "suspended", f"{control.reason} ({control.by})", until
    if told.paused_until > now:
        return "paused", told.paused_why, told.paused_until
    if told.penalised_until > now:
        blamed = ", ".join(name for name, until in told.penalised if name and until > now)
        return "penalised", f"its replies blame the reputation of {blamed or 'our address'}", told.penalised_until
    share = told.pressure.share_at(now, _GIVE)
    if share < 1.0:
        whole_again = told.pressure.cut_at + (1.0 - told.pressure.share) * _GIVE.recover
        return "slowed", f"it asked for less: {share:.0%} of its allowance", whole_again
    return ("open" if told.queued or told.connections else "idle"), "", None


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None or seconds >= FOREVER else datetime.fromtimestamp(seconds, UTC)
