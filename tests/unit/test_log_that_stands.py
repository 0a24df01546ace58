"""A log that stands for a moment, or is slow: the mails whose attempts it was to store do not leave together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import cycle

import msgspec
import pytest
from tests.support.busiest import busiest_second
from tests.support.deliver import TOPICS, Worker, rules_with

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.mailer import TAKEN, MemoryMailer
from sluice.deliver.books import LOOK_AGAIN_S
from sluice.deliver.exits import LONGEST_S, Exit, let_out
from sluice.deliver.meter import Meter
from sluice.deliver.shared_limits import LimitBook
from sluice.domain.reference import Tenant
from sluice.domain.shaping import IDLE, Gcra, Rate
from sluice.domain.smtp import Result
from sluice.ports.bus import Position, Record
from sluice.ports.mailer import Transaction

STEP = 0.02
RATE, BURST = 40, 4
LIMIT = f"{RATE}/s,burst={BURST}"
LIMITED = Tenant(tenant_id="acme", domains=[], rate=LIMIT)


class SlowLog(MemoryBus):
    """Acknowledges as many seconds late as ``delays`` say in turn, and nothing while it ``stands``."""

    def __init__(self, clock: MemoryClock, delays: tuple[float, ...] = ()) -> None:
        super().__init__(TOPICS)
        self._delays = cycle(delays) if delays else None
        self._clock = clock
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stand(self) -> None:
        """Acknowledge nothing any more."""
        self._flowing.clear()

    def go_on(self) -> None:
        """Acknowledge all that came meanwhile."""
        self._flowing.set()

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """See :class:`sluice.ports.bus.Bus`."""
        return asyncio.ensure_future(self._late(super().publish(record)))

    async def _late(self, stored: asyncio.Future[Position]) -> Position:
        if self._delays:
            await self._clock.sleep(next(self._delays))
        await self._flowing.wait()
        return await stored


class Scene:
    """A deliver worker with a slow log; when each tenant's mails came to the server."""

    def __init__(
        self,
        *,
        tenant: Tenant | None = None,
        rate: str | None = None,
        connections: int = 20,
        delays: tuple[float, ...] = (),
    ) -> None:
        self.clock = MemoryClock()
        self.log = SlowLog(self.clock, delays)
        self.sent: dict[str, list[float]] = defaultdict(list)
        mailer = MemoryMailer()
        mailer.answer("mx.test", self._taken)
        self.worker = Worker(
            bus=self.log,
            clock=self.clock,
            mailer=mailer,
            rules=rules_with(connections=connections, rate=Rate.parse(rate) if rate else None),
            limits=LimitBook({"acme": tenant}.get),
            budget=400,
        )
        self._mails = 0

    async def _taken(self, transaction: Transaction) -> Result:
        self.sent[transaction.mail_from.partition("@")[0]].append(self.clock.now())
        return TAKEN

    async def send(self, count: int, *, sites: int = 1, tenant: str = "acme") -> None:
        """Mails arrive, for so many sites in turn."""
        first, self._mails = self._mails + 1, self._mails + count
        envelopes = [
            self.worker.envelope(
                f"m{number}", tenant_id=tenant, mail_from=f"{tenant}@x.example", domain=f"d{number % sites}.example"
            )
            for number in range(first, first + count)
        ]
        await self.worker.take(*map(self.worker.record, envelopes))

    async def run(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds / STEP)):
            await self.clock.advance(STEP)
            self.worker.shared.turn()

    async def stand(self, seconds: float) -> None:
        """Time passes, and the log stands."""
        self.log.stand()
        await self.run(seconds)
        self.log.go_on()

    def busiest_second(self, tenant: str = "acme") -> int:
        """The most that arrived in any second."""
        return busiest_second(self.sent[tenant])


@pytest.mark.parametrize("stands", [0.3, 2.0])
async def test_a_tenants_limit_holds_when_the_log_goes_on(stands: float) -> None:
    """And is used afterwards as before."""
    scene = Scene(tenant=LIMITED)
    await scene.send(600, sites=16)
    await scene.run(1.5)
    await scene.stand(stands)
    before = len(scene.sent["acme"])
    await scene.run(3.0)
    assert scene.busiest_second() <= RATE + BURST
    assert len(scene.sent["acme"]) - before >= 0.9 * 3 * RATE
    await scene.worker.close()


@pytest.mark.parametrize("rate", [LIMIT, f"{RATE}/s,burst=1"])
async def test_a_lanes_rate_holds_when_the_log_goes_on(rate: str) -> None:
    """To the mail, as without."""
    scene = Scene(rate=rate)
    await scene.send(300)
    await scene.run(1.5)
    await scene.stand(0.4)
    await scene.run(3.0)
    assert scene.busiest_second() <= RATE + Rate.parse(rate).burst
    assert len(scene.sent["acme"]) >= 4 * RATE
    await scene.worker.close()


@pytest.mark.parametrize("delays", [(0.3,), (0.02, 0.18, 0.05, 0.1)])
async def test_a_log_that_is_always_slow_costs_nothing_of_the_rate(delays: tuple[float, ...]) -> None:
    """The next mail may begin while the one before waits for it.

    And twelve connections are soon open, though only ten may be opened at once: agents that find another one waiting
    for the rate use none of that up.
    """
    scene = Scene(rate=f"{RATE}/s,burst=1", delays=delays)
    await scene.send(300)
    await scene.run(1.0)
    before = len(scene.sent["acme"])
    await scene.run(4.0)
    assert len(scene.sent["acme"]) - before >= 0.95 * 4 * RATE
    await scene.worker.close()


async def test_a_lanes_rate_holds_when_a_worker_that_stood_still_is_counted_in_again() -> None:
    """Its mails wait until it is sure that they are its own, those whose attempts are written down as well."""
    scene = Scene(rate=f"{RATE}/s,burst=1")
    await scene.send(300)
    await scene.run(1.5)
    scene.log.stand()
    await scene.run(0.4)
    sure = False
    scene.worker.handler._books.ours = lambda: sure
    scene.log.go_on()
    await scene.run(0.6)
    sure = True
    await asyncio.sleep(2 * LOOK_AGAIN_S)
    await scene.run(2.0)
    assert scene.busiest_second() <= RATE + 1
    assert len(scene.sent["acme"]) >= 3 * RATE
    await scene.worker.close()


async def test_mails_held_up_for_their_tenants_limit_do_not_stand_in_the_lanes_line() -> None:
    """Another tenant's pass them there."""
    scene = Scene(tenant=msgspec.structs.replace(LIMITED, rate="10/s,burst=1"), rate="50/s,burst=5", connections=100)
    await scene.send(400)
    await scene.run(1.0)
    await scene.stand(3.0)
    await scene.send(50, tenant="other")
    await scene.run(1.2)
    assert len(scene.sent["other"]) == 50
    assert scene.busiest_second() <= 11
    await scene.worker.close()


async def test_no_more_begin_while_a_long_standstills_mails_are_held() -> None:
    """An urgent mail would stand behind all of them for as long as the backlog lasts."""
    scene = Scene(tenant=LIMITED)
    await scene.send(600, sites=16)
    await scene.run(1.0)
    await scene.stand(3.0)
    await scene.run(6.0)
    talks = [outcome for outcome in scene.worker.outcomes("delivered") if outcome.tenant_id == "acme"]
    assert max(outcome.duration_ms for outcome in talks[-20:]) <= 400
    await scene.worker.close()


async def test_a_mail_that_is_held_is_given_back_when_its_partition_moves() -> None:
    """Unsent, and its next owner is told so."""
    scene = Scene(rate="4/s,burst=1")
    await scene.send(40)
    await scene.run(1.0)
    await scene.stand(3.0)
    await scene.run(0.3)
    before = len(scene.sent["acme"])
    (partition,) = scene.worker.handler._ledgers
    revoked = asyncio.create_task(scene.worker.handler.revoked({partition}))
    await scene.run(0.6)
    assert revoked.done()
    assert len(scene.sent["acme"]) == before
    assert len(scene.worker.handler._attempts.take_unsent(partition)) >= 8
    await scene.worker.close()


async def test_nothing_leaves_under_a_share_that_others_have_by_then() -> None:
    """A worker that did not hear of the others for long has none, and gets one when it is heard again."""
    clock, rate = MemoryClock(), Rate.parse(LIMIT)
    meter = Meter(rate)
    meter.follow(rate, 0.5, False, clock.now())
    meter.follow(rate, 0.0, False, clock.now())
    gone = [asyncio.create_task(let_out((meter.exit,), clock, lambda: False)) for _ in range(10)]
    await clock.advance(10)
    assert not any(task.done() for task in gone)
    meter.follow(rate, 0.5, False, clock.now())
    await clock.advance(0.3)
    assert 2 <= sum(task.done() for task in gone) <= 0.3 * RATE * 0.5 + BURST * 0.5
    await clock.advance(0.3)
    assert all(task.done() for task in gone)


async def test_a_mail_is_not_held_for_ever_when_the_limit_falls() -> None:
    """Its server would hang up."""
    clock, limit = MemoryClock(), [Gcra.of(Rate.parse("10/s,burst=1"))]
    door = Exit(lambda _: limit[0], IDLE)
    gone = [asyncio.create_task(let_out((door,), clock, lambda: False)) for _ in range(5)]
    await clock.advance(0.1)
    assert sum(task.done() for task in gone) == 2
    limit[0] = Gcra.of(Rate.parse("1/h"))
    await clock.advance(LONGEST_S - 0.2)
    assert sum(task.done() for task in gone) == 3
    await clock.advance(0.2)
    assert all(task.done() for task in gone)
    assert door.waiting == 0
    assert door.wait(clock.now()) <= 3600
