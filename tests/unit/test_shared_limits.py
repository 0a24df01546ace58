"""Limits of tenants, campaigns and the egress, over several workers that share nothing but a log."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from tests.support.busiest import busiest_second
from tests.support.deliver import Worker

from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.demands import MemoryDemands
from sluice.adapters.memory.mailer import TAKEN, MemoryConnection, MemoryMailer
from sluice.deliver.meter import Meter
from sluice.deliver.shared_limits import LimitBook
from sluice.domain.conversation import Transcript
from sluice.domain.egress import Egress, Egresses
from sluice.domain.reference import Tenant
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Broken, Replied, Result
from sluice.domain.topics import WHEEL
from sluice.ports.intake import Taken
from sluice.ports.mailer import Hop, Transaction

STEP = 0.05
RATE, BURST = 40, 4
LIMITED = Tenant(tenant_id="acme", domains=[], rate=f"{RATE}/s,burst={BURST}")


class Cluster:
    """Workers, each with partitions of its own; the log between them; what waits comes back when its time has come."""

    def __init__(self, *tenants: Tenant, egress: Rate | None = None, delay: float = 0.2) -> None:
        self.clock = MemoryClock()
        self.mailer = MemoryMailer()
        self.mailer.answer("mx.test", self._taken)
        self.demands = MemoryDemands(self.clock)
        self.delay = delay
        self.tenants = {tenant.tenant_id: tenant for tenant in tenants}
        self.limits = LimitBook(self.tenants.get)
        self.egresses = Egresses([Egress("default", "test.example", rate=egress)])
        first = Worker(clock=self.clock)
        self.bus, self._maker = first.bus, first
        self.workers: dict[str, Worker] = {}
        self.owners: dict[int, str] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.open: dict[int, dict[int, Taken]] = defaultdict(dict)
        self.sent: dict[str, list[float]] = defaultdict(list)
        self.wheel: list[tuple[float, int, Taken]] = []
        self._seen: dict[tuple[str, int], int] = {}
        self._offset = self._mails = 0

    async def _taken(self, transaction: Transaction) -> Result:
        self.sent[transaction.mail_from.partition("@")[0]].append(self.clock.now())
        return TAKEN

    async def join(self, name: str, *partitions: int) -> None:
        """A worker starts and takes partitions over, from those that have them."""
        worker = self.workers[name] = Worker(
            bus=self.bus,
            clock=self.clock,
            mailer=self.mailer,
            limits=self.limits,
            egresses=self.egresses,
            demands=self.demands.member(self.delay),
            name=name,
        )
        self.tasks[name] = asyncio.create_task(worker.shared.run_forever())
        for partition in partitions:
            await self.move(partition, name)

    async def move(self, partition: int, name: str) -> None:
        """The partition changes hands; what was not finished is read again."""
        before = self.workers.get(self.owners.get(partition, ""))
        if before:
            await before.handler.revoked({partition})
        self.owners[partition] = name
        await self.workers[name].handler.assigned(partition)
        for record in list(self.open[partition].values()):
            self.take(record)

    async def kill(self, name: str) -> None:
        """The worker is gone, and nobody was told."""
        self.tasks.pop(name).cancel()
        await self.workers.pop(name).close()

    def take(self, record: Taken) -> None:
        """The partition's owner reads a record."""
        self.open[record.partition][record.offset] = record
        name = self.owners[record.partition]
        if name in self.workers:
            done = lambda: self.open[record.partition].pop(record.offset, None)  # noqa: E731
            self.workers[name].handler.take(record, done)

    def send(self, count: int, tenant: str = "acme", *, domain: str = "site", **envelope: Any) -> None:
        """Mails to a site arrive."""
        for _ in range(count):
            self._mails += 1
            made = self._maker.envelope(
                f"m{self._mails}",
                tenant_id=tenant,
                mail_from=f"{envelope.get('campaign_id') or tenant}@x.example",
                domain=f"{domain}.example",
                **envelope,
            )
            self.take(self._maker.record(made, offset=self._next()))

    def _next(self) -> int:
        self._offset += 1
        return self._offset

    async def run(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds / STEP)):
            await self.clock.advance(STEP)
            self._turn_wheel()

    def _turn_wheel(self) -> None:
        for topic in WHEEL.values():
            records = self.bus.stored[topic, 0]
            for record in records[self._seen.get((topic, 0), 0) :]:
                headers = dict(record.headers)
                back, _, partition = headers["return-to"].decode().partition(":")
                due = int(headers["not-before"]) / 1000
                left = [(name, value) for name, value in record.headers if name not in ("not-before", "return-to")]
                offset = self._next()
                taken = Taken(back, int(partition), offset, record.key, record.value, left, due)
                heapq.heappush(self.wheel, (due, offset, taken))
            self._seen[topic, 0] = len(records)
        while self.wheel and self.wheel[0][0] <= self.clock.now():
            self.take(heapq.heappop(self.wheel)[2])

    def busiest_second(self, who: str) -> int:
        """The most that left in any second."""
        return busiest_second(self.sent[who])

    async def close(self) -> None:
        """Everybody stops."""
        for name in list(self.workers):
            await self.kill(name)


def apart(count: int) -> list[str]:
    """Sites at home in partitions 0 to ``count - 1``."""
    homes: dict[int, str] = {}
    for number in range(1000):
        homes.setdefault(lane_partition(f"site{number}.example#0", 4), f"site{number}")
    return [homes[partition] for partition in range(count)]


async def test_a_tenants_limit_holds_over_two_workers_while_one_joins_and_one_vanishes() -> None:
    """Counted in every second; and the limit is used, not only kept."""
    cluster = Cluster(LIMITED)
    first, second = apart(2)
    await cluster.join("a", 0, 1)
    for _ in range(5):
        cluster.send(60, domain=first)
        cluster.send(20, domain=second)
        await cluster.run(1)
    await cluster.join("b", 1)
    for _ in range(5):
        cluster.send(40, domain=first)
        cluster.send(40, domain=second)
        await cluster.run(1)
    await cluster.kill("a")
    await cluster.run(2)
    await cluster.move(0, "b")
    begun = cluster.clock.now()
    while len(cluster.sent["acme"]) < 800 and cluster.clock.now() < begun + 60:
        await cluster.run(1)
    assert len(cluster.sent["acme"]) == 800
    assert cluster.busiest_second("acme") <= 1.1 * RATE + BURST
    assert cluster.clock.now() - begun < 15
    await cluster.close()


async def test_demand_moves_the_limit_to_where_the_mail_is() -> None:
    """A worker with little to do leaves its share to the other."""
    cluster = Cluster(LIMITED)
    first, second = apart(2)
    await cluster.join("a", 0)
    await cluster.join("b", 1)
    cluster.send(600, domain=first)
    cluster.send(10, domain=second)
    await cluster.run(5)
    before = len(cluster.sent["acme"])
    await cluster.run(8)
    assert len(cluster.sent["acme"]) - before >= 0.8 * 8 * RATE
    assert cluster.busiest_second("acme") <= 1.1 * RATE + BURST
    await cluster.close()


async def test_other_tenants_mails_in_the_same_lane_do_not_wait() -> None:
    """However many of the limited tenant's wait before them."""
    cluster = Cluster(LIMITED)
    (site,) = apart(1)
    await cluster.join("a", 0)
    cluster.send(2000, domain=site)
    cluster.send(40, "other", domain=site)
    await cluster.run(0.5)
    assert len(cluster.sent["other"]) == 40
    assert len(cluster.sent["acme"]) <= 0.5 * RATE + BURST
    await cluster.close()


async def test_a_long_backlog_goes_through_the_wheel_once() -> None:
    """Its mails come back when it is their turn, and the outcome says what they wait for."""
    cluster = Cluster(LIMITED)
    (site,) = apart(1)
    await cluster.join("a", 0)
    cluster.send(1200, domain=site)
    await cluster.run(60)
    worker = cluster.workers["a"]
    assert len(cluster.sent["acme"]) == 1200
    put_off = worker.outcomes("deferred")
    assert {outcome.category for outcome in put_off} == {"throttled"}
    assert all("the tenant's rate" in (outcome.reason or "") for outcome in put_off)
    assert len(put_off) < 1.2 * 1200
    await cluster.close()


async def test_a_worker_with_a_small_share_books_no_slots_far_away_once_it_asks_for_more() -> None:
    """They would be hours away for a backlog that it works off in seconds."""
    cluster = Cluster(LIMITED)
    first, second = apart(2)
    await cluster.join("a", 0)
    await cluster.join("b", 1)
    cluster.send(1000, domain=first)
    cluster.send(2, domain=second)
    await cluster.run(5)
    cluster.wheel.clear()
    cluster.send(800, domain=second)
    await cluster.run(0.5)
    cluster.send(800, domain=second)
    await cluster.run(0.2)
    waiting = [until - cluster.clock.now() for until, _, taken in cluster.wheel if taken.partition == 1]
    assert len(waiting) > 1000
    assert max(waiting) < 120
    await cluster.close()


async def test_each_campaign_of_a_tenant_has_the_limit_for_itself() -> None:
    """Mails without one have none."""
    cluster = Cluster(Tenant(tenant_id="acme", domains=[], campaign_rate="10/s,burst=1"))
    (site,) = apart(1)
    await cluster.join("a", 0)
    for campaign in ("spring", "autumn", None):
        cluster.send(60, domain=site, campaign_id=campaign)
    await cluster.run(5)
    assert len(cluster.sent["acme"]) == 60
    for campaign in ("spring", "autumn"):
        assert cluster.busiest_second(campaign) <= 12
        assert 40 <= len(cluster.sent[campaign]) <= 52
    await cluster.close()


async def test_the_egress_has_a_limit_for_all_tenants_together() -> None:
    """The tenant's own holds beside it."""
    cluster = Cluster(Tenant(tenant_id="small", domains=[], rate="5/s,burst=1"), egress=Rate.parse("20/s,burst=1"))
    (site,) = apart(1)
    await cluster.join("a", 0)
    cluster.send(50, "small", domain=site)
    cluster.send(50, "large", domain=site)
    await cluster.run(4)
    together = sorted(cluster.sent["small"] + cluster.sent["large"])
    cluster.sent["all"] = together
    assert cluster.busiest_second("all") <= 22
    assert cluster.busiest_second("small") <= 6
    assert len(together) >= 55
    await cluster.close()


async def test_a_worker_that_nobody_hears_sends_nothing_under_a_limit_and_everything_else() -> None:
    """Without the log it has no share."""
    cluster = Cluster(LIMITED, delay=1e9)
    (site,) = apart(1)
    await cluster.join("a", 0)
    cluster.send(20, domain=site)
    cluster.send(20, "other", domain=site)
    await cluster.run(10)
    assert len(cluster.sent["other"]) == 20
    assert cluster.sent["acme"] == []
    assert len(cluster.workers["a"].waiting()) == 20
    await cluster.close()


async def test_workers_without_limited_mail_say_nothing() -> None:
    """And one that had some says once that it wants no more."""
    cluster = Cluster(LIMITED)
    (site,) = apart(1)
    await cluster.join("a", 0)
    cluster.send(20, "other", domain=site)
    await cluster.run(5)
    assert cluster.demands.log == []
    cluster.send(1, domain=site)
    await cluster.run(40)
    said = len(cluster.demands.log)
    assert cluster.demands.log[-1][0].claims == {}
    await cluster.run(5)
    assert len(cluster.demands.log) == said
    await cluster.close()


def test_a_meter_gives_no_burst_for_a_share_that_moves() -> None:
    """However often it does; what was sent stays counted."""
    rate = Rate.parse("100/s,burst=10")
    meter, sent, now = Meter(rate), [], 0.0
    for step in range(400):
        now = step * 0.01
        meter.follow(rate, (0.1, 1.0, 0.5, 0.0)[step % 4], False, now)
        while meter.open and meter.ready_at(now) <= now:
            meter.take(now)
            sent.append(now)
    assert len(sent) <= 100 * 0.4 * 4.0 + 10


def test_a_rate_that_is_none_is_refused_with_the_tenant() -> None:
    """Where it is written, not when a mail comes."""
    for wrong in ("fast", "0/s", "10", "10/s,burst=0"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"tenant_id": "a", "domains": [], "rate": wrong}, Tenant)
    for right in ("100/s", "5000/h,burst=50", "60/min"):
        Rate.parse(msgspec.convert({"tenant_id": "a", "domains": [], "rate": right}, Tenant).rate or "")


class SlowToGreet(MemoryMailer):
    """A connection takes a second to open."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__()
        self._clock = clock

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> MemoryConnection | Replied | Broken:
        await self._clock.sleep(1.0)
        return await super().connect(hop, talk)


async def test_mails_whose_connections_open_at_one_moment_do_not_go_together() -> None:
    """A turn that was taken before a connection is opened would be used a second late, with all the others."""
    clock = MemoryClock()
    mailer = SlowToGreet(clock)
    worker = Worker(clock=clock, mailer=mailer, limits=LimitBook({"acme": LIMITED}.get))
    sent: list[float] = []

    async def taken(_: Transaction) -> Result:
        sent.append(clock.now())
        return TAKEN

    mailer.answer("mx.test", taken)
    for number in range(160):
        await worker.take(worker.record(worker.envelope(f"m{number}", domain=f"d{number % 16}.example")))
    for _ in range(120):
        await clock.advance(STEP)
        worker.shared.turn()
        await worker.settle()
    assert busiest_second(sent) <= 1.1 * RATE + BURST
    assert len(sent) > 3 * RATE
    await worker.close()
