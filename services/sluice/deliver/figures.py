"""What deliver tells of itself: where mails wait, and how the lanes stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sluice.deliver.lane import Lane
from sluice.deliver.senders import Senders
from sluice.deliver.shared_limits import SharedLimits
from sluice.ports.metrics import (
    CONNECTIONS,
    LANE_CONNECTIONS,
    LANE_CONNECTIONS_MAX,
    LANE_QUEUED,
    LANE_RATE,
    LANES,
    LANES_PAUSED,
    OTHER,
    WAITING,
    Figure,
)


def waiting_figures(lanes: Iterable[Lane], senders: Senders, shared: SharedLimits, unfinished: int) -> Iterator[Figure]:
    """Where the ``unfinished`` mails are."""
    queued = sum(lane.queued for lane in lanes)
    attempting = len(senders.attempting)
    yield Figure(WAITING, queued, ("queue",))
    yield Figure(WAITING, shared.parked, ("shared_limit",))
    yield Figure(WAITING, attempting, ("attempt",))
    yield Figure(WAITING, max(0, unfinished - queued - shared.parked - attempting), ("other",))
    yield Figure(CONNECTIONS, senders.connections)


def lane_figures(lanes: Iterable[Lane], named: frozenset[str], now: float) -> Iterator[Figure]:
    """How the lanes stand, by the sites that the rules name and for all others together; ``now`` is since the epoch."""
    by_site: defaultdict[str, list[Lane]] = defaultdict(list)
    for lane in lanes:
        by_site[lane.site.name if lane.site.name in named else OTHER].append(lane)
    for site, found in by_site.items():
        yield Figure(LANES, len(found), (site,))
        yield Figure(LANE_QUEUED, sum(lane.queued for lane in found), (site,))
        yield Figure(LANE_CONNECTIONS, sum(lane.slots.taken for lane in found), (site,))
        yield Figure(LANES_PAUSED, sum(lane.allowance.paused(now)[0] > now for lane in found), (site,))
        if site == OTHER:
            continue
        yield Figure(LANE_CONNECTIONS_MAX, sum(lane.allowance.connections(now) for lane in found), (site,))
        rates = [lane.allowance.rate(now, lane.service) for lane in found]
        if all(rates):
            yield Figure(LANE_RATE, sum(1 / rate.interval for rate in rates if rate), (site,))
