"""Limits that span lanes: of tenants, of campaigns, of this egress; each worker has a share of every one it needs."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from sluice.deliver.exits import Exit
from sluice.deliver.item import Item
from sluice.deliver.lane import Lane, Wait
from sluice.deliver.meter import LISTEN_S, Meter
from sluice.deliver.paths import Path
from sluice.domain.egress import Egress
from sluice.domain.mail import Envelope
from sluice.domain.reference import Tenant
from sluice.domain.shaping import Rate
from sluice.domain.sharing import INTERVAL, Shares
from sluice.ports.clock import Clock
from sluice.ports.demands import Demands

SOONEST_S = 0.25
"""Seconds between two reports at least, when a limit is needed that was not needed before."""
SHORTEST_S = 0.005
"""Seconds below which there is no waking up: mails go on several at a time then."""
SETTLING_S = 10.0
"""Seconds that a mail is put off at most while this worker's share is still rising: its slots are too far away."""
MOST_PARKED = 1_000
"""Mails that wait in memory for these limits at most, so that they do not fill the worker."""


class Limit(msgspec.Struct, frozen=True):
    """A limit: the name under which workers share it, what it is called in outcomes, and how much it is in all."""

    key: str
    what: str
    rate: Rate


class LimitBook:
    """Which limits a mail is under. ``tenant`` looks a tenant up."""

    def __init__(self, tenant: Callable[[str], Tenant | None]) -> None:
        self._tenant = tenant
        self._known: dict[str, tuple[Tenant, tuple[Limit, ...], Rate | None]] = {}

    def of(self, envelope: Envelope, egress: Egress | None = None) -> tuple[Limit, ...]:
        """The limits of a mail that takes ``egress``; empty for most mails, at the cost of a look-up."""
        limits = self._of_tenant(envelope)
        if egress is None or egress.rate is None:
            return limits
        return (Limit(f"egress:{egress.name}", "the egress's rate", egress.rate), *limits)

    def _of_tenant(self, envelope: Envelope) -> tuple[Limit, ...]:
        tenant = self._tenant(envelope.tenant_id)
        if tenant is None or (tenant.rate is None and tenant.campaign_rate is None):
            return ()
        known = self._known.get(tenant.tenant_id)
        if known is None or known[0] is not tenant:
            known = self._known[tenant.tenant_id] = self._read(tenant)
        _, limits, campaign_rate = known
        if campaign_rate is None or not envelope.campaign_id:
            return limits
        key = f"campaign:{tenant.tenant_id}/{envelope.campaign_id}"
        return (*limits, Limit(key, "the campaign's rate", campaign_rate))

    def _read(self, tenant: Tenant) -> tuple[Tenant, tuple[Limit, ...], Rate | None]:
        limits: tuple[Limit, ...] = ()
        if tenant.rate:
            limits = (Limit(f"tenant:{tenant.tenant_id}", "the tenant's rate", Rate.parse(tenant.rate)),)
        return tenant, limits, Rate.parse(tenant.campaign_rate) if tenant.campaign_rate else None


class Gate(Protocol):
    """What is asked when a mail arrives, and before it is sent."""

    def place(self, item: Item, now: float) -> Wait | None:
        """Where a mail that has just arrived waits; see :meth:`sluice.deliver.lane.Lane.booked`."""
        ...

    def may_go(self, item: Item, lane: Lane, path: Path) -> bool:
        """Whether to send the mail now. False when it waits elsewhere, and is no longer the caller's."""
        ...

    def exits(self, item: Item) -> tuple[Exit, ...]:
        """Where a mail that may go leaves, once its attempt is written down."""
        ...


class Open:
    """A :class:`Gate` that lets everything through: where no limits span lanes."""

    def place(self, _item: Item, _now: float) -> Wait | None:
        """See :class:`Gate`."""
        return None

    def may_go(self, _item: Item, _lane: Lane, _path: Path) -> bool:
        """See :class:`Gate`."""
        return True

    def exits(self, _item: Item) -> tuple[Exit, ...]:
        """See :class:`Gate`."""
        return ()


class SharedLimits:
    """Keeps the shares of this worker and the mails that wait for them; ``patience`` seconds at most, in memory.

    ``put_off`` is told which mail waits in the wheel until when, and for what; ``go_on`` who may ask again.
    """

    def __init__(
        self,
        book: LimitBook,
        shares: Shares,
        demands: Demands,
        clock: Clock,
        put_off: Callable[[Item, float, str], None],
        *,
        patience: float,
    ) -> None:
        self._book = book
        self._shares = shares
        self._demands = demands
        self._clock = clock
        self._put_off = put_off
        self._patience = patience
        self._meters: dict[str, Meter] = {}
        self._parked: defaultdict[str, deque[tuple[Item, Lane, Path]]] = defaultdict(deque)
        self._count = 0
        self._reported_at = -math.inf
        self._said_something = False
        self._news = False
        self.go_on: Callable[[Item, Lane, Path], None] = _nowhere

    @property
    def parked(self) -> int:
        """Mails that wait in memory for room under a limit."""
        return self._count

    def place(self, item: Item, now: float) -> Wait | None:
        """See :class:`Gate`.

        As in a lane, a mail over the limit books a slot and comes back for it.
        """
        limits = self._book.of(item.mail.envelope, item.egress)
        if not limits:
            return None
        slots = []
        for limit in limits:
            meter = self._meter(limit, now)
            meter.came()
            if item.mail.progress.slot is None:
                slots.append((self._book_slot(limit.key, now), limit.what))
        until, what = max(slots, default=(now, ""))
        if until - now <= self._patience:
            return None
        return Wait(until, "rate", what)

    def may_go(self, item: Item, lane: Lane, path: Path) -> bool:
        """See :class:`Gate`."""
        limits = self._book.of(item.mail.envelope, item.egress)
        if not limits:
            return True
        now = self._clock.now()
        meters = [self._meter(limit, now) for limit in limits]
        # Who has waited goes before who has just come.
        ahead = [0 if item.parked_at is not None else len(self._parked.get(limit.key, ())) for limit in limits]
        ready = [meter.ready_at(now, count) for meter, count in zip(meters, ahead, strict=True)]
        if max(ready) <= now:
            for meter in meters:
                meter.take(now)
            item.parked_at = None
            return True
        slowest = ready.index(max(ready))
        self._wait(item, lane, path, limits[slowest], max(ready), now)
        return False

    def exits(self, item: Item) -> tuple[Exit, ...]:
        """See :class:`Gate`."""
        limits, now = self._book.of(item.mail.envelope, item.egress), self._clock.now()
        return tuple(self._meter(limit, now).exit for limit in limits)

    def _wait(self, item: Item, lane: Lane, path: Path, limit: Limit, ready: float, now: float) -> None:
        waited = 0.0 if item.parked_at is None else now - item.parked_at
        if max(ready - now, waited) > self._patience or self._count >= MOST_PARKED:
            self._put_off(item, self._book_slot(limit.key, now, ready), limit.what)
            return
        self._count += 1
        if item.parked_at is None:
            item.parked_at = now
            self._parked[limit.key].append((item, lane, path))
        else:
            self._parked[limit.key].appendleft((item, lane, path))

    def _book_slot(self, key: str, now: float, soonest: float = 0.0) -> float:
        meter = self._meters[key]
        slot = max(meter.book(now), soonest)
        if slot - now > SETTLING_S and self._shares.rising(key, meter.ahead(now), now):
            return now + SETTLING_S
        return slot

    def _meter(self, limit: Limit, now: float) -> Meter:
        meter = self._meters.get(limit.key)
        if meter is None:
            meter = self._meters[limit.key] = Meter(limit.rate)
            self._news = True
        self._follow(limit.key, meter, limit.rate, now)
        return meter

    def _follow(self, key: str, meter: Meter, rate: Rate, now: float) -> None:
        meter.follow(rate, self._shares.share(key, now), not self._shares.shared(key), now)

    async def run_forever(self) -> None:
        """Listen, report and let mails go on, until cancelled."""
        while True:
            self.turn()
            now = self._clock.now()
            wake = min(
                [now + LISTEN_S, *(self._meters[key].ready_at(now) for key, line in self._parked.items() if line)]
            )
            await self._clock.sleep(max(SHORTEST_S, wake - now))

    def turn(self) -> None:
        """One round."""
        now = self._clock.now()
        heard = self._demands.heard()
        for report, at in heard:
            self._shares.hear(report, at, now)
        if heard and not self._news:
            self._news = self._shares.wants_to_move(now)
        since = now - self._reported_at
        if since >= INTERVAL or (self._news and since >= SOONEST_S):
            self._report(min(since, INTERVAL), now)
        for key, meter in self._meters.items():
            if meter.exit.waiting:
                self._follow(key, meter, meter.limit, now)
        for key in list(self._parked):
            self._let_on(key, now)

    def _let_on(self, key: str, now: float) -> None:
        """Let as many go on as may leave now; they take their turns when a sender has them."""
        line, meter = self._parked[key], self._meters[key]
        self._follow(key, meter, meter.limit, now)
        number = 0
        while line and (meter.ready_at(now, number) <= now or now - (line[0][0].parked_at or now) > self._patience):
            item, lane, path = line.popleft()
            self._count -= 1
            number += 1
            item.waits = item.waits.plus("rate", (now - item.taken_at) * 1000)
            item.taken_at = item.waits_since = now
            self.go_on(item, lane, path)
        if not line:
            del self._parked[key]

    def _report(self, seconds: float, now: float) -> None:
        self._reported_at, self._news = now, False
        demands = {}
        for key, meter in list(self._meters.items()):
            demand = meter.demand(seconds, now)
            if demand or meter.owes(now) or meter.exit.waiting or key in self._parked:
                demands[key] = demand
            else:
                del self._meters[key]
        if demands or self._said_something:
            self._demands.say(self._shares.report(demands, now))
        self._said_something = bool(demands)

    def give_up(self) -> None:
        """Let others have every share at once: this worker sends nothing more."""
        if self._said_something:
            self._demands.say(self._shares.report({}, self._clock.now()))
            self._said_something = False


def _nowhere(_item: Item, _lane: Lane, _path: Path) -> None:
    raise RuntimeError("nobody takes mails that waited for a shared limit")
