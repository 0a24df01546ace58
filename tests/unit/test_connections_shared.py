"""Who gets a connection when they are few: reserves, weights, turns, and idle ones that give way."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.deliver import Worker, rules_with

from sluice.adapters.memory.clock import MemoryClock
from sluice.deliver.desk import Desk
from sluice.deliver.flow import Flow
from sluice.deliver.slots import Slots
from sluice.domain.egress import Egress, Egresses
from sluice.domain.errors import RuleError
from sluice.domain.events import PRIORITIES
from sluice.domain.priorities import Priorities
from sluice.domain.rules import Rules
from sluice.domain.shaping import PRIORITY_WEIGHTS, Rate, WeightedChooser
from sluice.domain.site import SiteGroup
from sluice.domain.smtp import Replied
from sluice.domain.triggers import Trigger, Triggers
from sluice.ports.mailer import Transaction

OK = Replied("dot", 250, "2.0.0 taken", "2.0.0")
NO_RESERVE = Priorities(reserve=0.0)
HOST = "mx.test"


class Slow:
    """Servers that answer after ``seconds`` of the worker's clock, or when told to; counts what is under way."""

    def __init__(self, worker: Worker, seconds: float | None = None, hosts: tuple[str, ...] = (HOST,)) -> None:
        self.worker = worker
        self.seconds = seconds
        self.gate = asyncio.Event()
        self.busy: list[str] = []
        self.most: dict[str, int] = {}
        for host in hosts:
            worker.mailer.answer(host, self._answer)

    async def _answer(self, transaction: Transaction) -> Replied:
        who = transaction.rcpt_to
        self.busy.append(who)
        for kind in ("", *PRIORITIES):
            count = sum(each.startswith(kind) for each in self.busy)
            self.most[kind] = max(self.most.get(kind, 0), count)
        below = sum(not each.startswith("high") for each in self.busy)
        self.most["below high"] = max(self.most.get("below high", 0), below)
        if self.seconds is None:
            await self.gate.wait()
        else:
            await self.worker.clock.sleep(self.seconds)
        self.busy.remove(who)
        return OK


async def send(worker: Worker, priority: str, count: int, **given: Any) -> None:
    """Bring mails; their recipients are named after the priority."""
    start = worker._offset
    await worker.take(
        *(
            worker.record(worker.envelope(f"{priority}{start + number}", priority=priority, **given))
            for number in range(count)
        )
    )


def taken(worker: Worker, prefix: str = "") -> list[str]:
    return [each.transaction.rcpt_to for each in worker.mailer.taken if each.transaction.rcpt_to.startswith(prefix)]


def open_connections(worker: Worker) -> int:
    return sum(each.usable for each in worker.mailer.opened)


def one_site(*domains: str, **limits: Any) -> Rules:
    """Domains that are one site, whose mail other hosts take for each."""
    rules = rules_with(**limits)
    site = msgspec.structs.replace(rules.sites.default, name="both")
    return msgspec.structs.replace(rules, sites=type(rules.sites)(rules.sites.default, [SiteGroup(site, domains)]))


async def test_in_a_lane_urgent_mail_finds_a_connection_that_bulk_may_not_take() -> None:
    """The site's servers are slow, and have all the bulk mail that they may have."""
    worker = Worker(rules=rules_with(connections=5, rate=None), patience=60.0)
    slow = Slow(worker)
    await send(worker, "bulk", 20)
    await send(worker, "normal", 20)
    assert len(slow.busy) == 4
    await send(worker, "high", 2)
    assert [who[:4] for who in slow.busy].count("high") == 1
    slow.gate.set()
    await worker.clock.advance(1.0)
    assert len(taken(worker)) == 42
    await worker.close()


async def test_in_a_worker_urgent_mail_finds_a_connection_that_bulk_may_not_take() -> None:
    """Here every site has its share; it is the worker that may open no more."""
    worker = Worker(rules=rules_with(rate=None), budget=10, priorities=Priorities(reserve=0.2))
    slow = Slow(worker)
    for number in range(30):
        await send(worker, "bulk", 1, domain=f"site{number}.example")
    assert len(slow.busy) == 8
    await send(worker, "high", 1, domain="other.example")
    await send(worker, "high", 1, domain="another.example")
    assert slow.most["high"] == 2
    await send(worker, "high", 1, domain="third.example")
    assert slow.most[""] == 10
    slow.gate.set()
    await worker.clock.advance(1.0)
    assert len(taken(worker)) == 33
    await worker.close()


@pytest.mark.parametrize(
    ("reserve", "connections", "kept"),
    [(0.1, 1, 0), (0.1, 2, 1), (0.1, 10, 1), (0.1, 200, 20), (0.9, 3, 2), (0.0, 9, 0)],
)
def test_the_reserve_is_a_part_and_at_least_one_and_never_all(reserve: float, connections: int, kept: int) -> None:
    """A single connection is shared by turns."""
    assert Priorities(reserve=reserve).reserved(connections) == kept


@pytest.mark.parametrize("text", ["16:4", "16:4:0", "a:b:c", "", "-1:4:1"])
def test_weights_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RuleError, match="16:4:1"):
        Priorities.parse(text)


def test_weights_are_read_as_written() -> None:
    assert Priorities.parse("8 : 2 : 1", 0.25) == Priorities((8, 2, 1), 0.25)


async def test_an_idle_connection_gives_way_at_once() -> None:
    """No time passes: the one that has been idle for longest is closed."""
    worker = Worker(budget=2, priorities=NO_RESERVE)
    for site in ("a", "b", "c"):
        await send(worker, "bulk", 1, domain=f"{site}.example")
    assert len(taken(worker)) == 3
    assert [each.usable for each in worker.mailer.opened] == [False, True, True]
    await worker.close()


async def test_an_idle_connection_to_one_host_of_a_site_gives_way_to_mail_for_another() -> None:
    """The site allows one connection, and has other servers for the other domain."""
    worker = Worker(
        rules=one_site("a.example", "b.example", connections=1, rate=None),
        routes="a.example=smtp://one:25 b.example=smtp://two:25",
    )
    await send(worker, "bulk", 1, domain="a.example", site="both", lane="both#0")
    await send(worker, "bulk", 1, domain="b.example", site="both", lane="both#0")
    assert len(taken(worker)) == 2
    assert open_connections(worker) == 1
    await worker.close()


async def test_a_busy_host_of_a_site_does_not_keep_the_only_connection_from_another() -> None:
    """Both have a backlog; they take turns."""
    worker = Worker(
        rules=one_site("a.example", "b.example", connections=1, rate=None),
        routes="a.example=smtp://one:25 b.example=smtp://two:25",
        patience=300.0,
    )
    Slow(worker, 0.5, ("one", "two"))
    await send(worker, "bulk", 60, domain="a.example", site="both", lane="both#0")
    await send(worker, "bulk", 60, domain="b.example", site="both", lane="both#0")
    await worker.clock.advance(40.0)
    shares = [sum(who.endswith(f"@{domain}.example") for who in taken(worker)) for domain in "ab"]
    assert min(shares) > 25
    await worker.close()


async def test_a_site_with_a_backlog_does_not_keep_the_budget_from_another() -> None:
    """Of the same priority: they take turns, of seconds."""
    worker = Worker(rules=rules_with(rate=None), budget=1, patience=300.0)
    Slow(worker, 0.5)
    await send(worker, "bulk", 200, domain="a.example")
    await send(worker, "bulk", 1, domain="b.example")
    await worker.clock.advance(5.0)
    assert sum(who.endswith("@b.example") for who in taken(worker)) == 1
    await worker.close()


async def test_the_budget_is_used_by_weight_and_nobody_starves() -> None:
    """Three backlogs at three sites and one connection for all: bulk has its turns, few as they are."""
    worker = Worker(rules=rules_with(rate=None), budget=1, patience=3600.0, priorities=Priorities((4, 2, 1)))
    Slow(worker, 0.5)
    for priority in PRIORITIES:
        await send(worker, priority, 300, domain=f"{priority}.example")
    await worker.clock.advance(140.0)
    high, normal, bulk = (len(taken(worker, priority)) for priority in PRIORITIES)
    assert bulk >= 20
    assert normal == pytest.approx(2 * bulk, abs=12)
    assert high == pytest.approx(4 * bulk, abs=24)
    await worker.close()


async def test_a_site_with_a_low_rate_is_not_called_more_often_than_the_rate_needs() -> None:
    """Two mails a second, each taken at once: one connection sends while the other waits, for a hundred of them."""
    worker = Worker(rules=rules_with(rate=Rate(2, 1.0, 1), connections=10, connect_rate=None), patience=1e9)
    Slow(worker, 0.01)
    await send(worker, "normal", 100)
    await worker.clock.advance(50.0)
    assert len(taken(worker)) >= 99
    assert len(worker.mailer.opened) <= 2
    await worker.close()


async def test_a_slow_site_gets_as_many_connections_as_its_rate_needs() -> None:
    """Two mails a second of which each takes three: six at a time."""
    worker = Worker(rules=rules_with(rate=Rate(2, 1.0, 1), connections=20, connect_rate=None), patience=1e9)
    slow = Slow(worker, 3.0)
    await send(worker, "normal", 100)
    await worker.clock.advance(54.0)
    assert len(taken(worker)) >= 99
    assert 6 <= len(worker.mailer.opened) <= 9
    assert slow.most[""] <= 7
    await worker.close()


async def test_egresses_of_a_lane_share_its_connections() -> None:
    """Whichever had mail first: each sends at its own rate from the first turn on."""
    two = Egresses([Egress("one", "one.example"), Egress("two", "two.example")])
    worker = Worker(
        rules=rules_with(rate=None, connect_rate=None, connections=4, mails_per_connection=1000),
        egresses=two,
        patience=1e9,
    )
    Slow(worker, 0.5)
    await send(worker, "bulk", 400)
    await worker.clock.advance(5.0)
    before = Counter(each.hop.ehlo for each in worker.mailer.taken)
    await worker.clock.advance(30.0)
    after = Counter(each.hop.ehlo for each in worker.mailer.taken)
    assert min((after - before).values()) >= 50
    await worker.close()


async def test_connections_beyond_what_a_trigger_leaves_are_given_up() -> None:
    """At once, not when there is nothing more to send."""
    trigger = Trigger(id="few", action="lower_connections", connections=1, lasts=600.0, codes=("452",))
    rules = msgspec.structs.replace(rules_with(connections=5, rate=None), triggers=Triggers([trigger]))
    worker = Worker(rules=rules, patience=300.0)
    slow = Slow(worker, 0.5)
    await send(worker, "normal", 60)
    assert open_connections(worker) == 4
    worker.mailer.answer("refused@site.example", Replied("rcpt", 452, "4.3.2 too many connections", "4.3.2"))
    await worker.take(worker.record(worker.envelope("refused", priority="high")))
    await worker.clock.advance(2.0)
    assert open_connections(worker) == 1
    slow.most.clear()
    await worker.clock.advance(5.0)
    assert slow.most[""] == 1
    await worker.close()


arrivals = st.lists(
    st.tuples(st.sampled_from(PRIORITIES), st.integers(0, 4), st.integers(1, 6), st.sampled_from((0.0, 0.1, 2.0))),
    min_size=1,
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(arrivals, st.integers(1, 6), st.integers(1, 4), st.sampled_from((0.0, 0.1, 0.5)))
def test_whatever_comes_reserves_hold_and_everybody_is_served(
    came: list[tuple[str, int, int, float]], budget: int, connections: int, reserve: float
) -> None:
    """Never more than there may be, never more below the highest than the reserve leaves, and nothing left behind."""

    async def run() -> None:
        priorities = Priorities(reserve=reserve)
        worker = Worker(
            rules=rules_with(rate=None, connections=connections, connect_rate=None),
            budget=budget,
            patience=1e9,
            priorities=priorities,
        )
        slow = Slow(worker, 0.7)
        total = 0
        for priority, site, count, pause in came:
            await send(worker, priority, count, domain=f"{site}.example")
            total += count
            await worker.clock.advance(pause)
            assert open_connections(worker) <= budget
            for lane in worker.handler.lanes.values():
                assert lane.slots.taken <= connections
                assert lane.slots.general <= connections - priorities.reserved(connections)
        await worker.clock.advance(total * 0.7 + 30.0)
        assert len(taken(worker)) == total
        assert slow.most[""] <= budget
        assert slow.most["below high"] <= budget - priorities.reserved(budget)
        await worker.clock.advance(60.0)
        worker.handler.sweep()
        await worker.settle()
        assert open_connections(worker) == 0
        assert worker.senders.connections == 0
        await worker.close()

    asyncio.run(run())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(PRIORITIES), st.integers(0, 5)),
        st.tuples(st.just("move"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from((1, 8, 35)), st.just(0)),
        st.tuples(st.just("refuse"), st.integers(0, 5), st.just(0)),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(steps, st.integers(1, 4), st.integers(1, 3))
def test_nothing_is_left_behind_when_lanes_move_and_servers_close(
    steps: list[tuple[str, Any, int]], budget: int, connections: int
) -> None:
    """Partitions go and come back, servers cut connections off; in the end every mail is delivered, each seat free."""

    async def run() -> None:
        worker = Worker(
            rules=rules_with(rate=None, connections=connections, connect_rate=None, idle=5.0),
            budget=budget,
            patience=1e9,
        )
        slow = Slow(worker, 0.7)
        records: list[Any] = []
        for number, (step, what, site) in enumerate(steps):
            if step == "come":
                envelope = worker.envelope(f"{what}{number}", priority=what, domain=f"{site}.example")
                records.append(worker.record(envelope))
                await worker.take(records[-1])
            elif step == "move":
                moving = asyncio.create_task(worker.handler.revoked({what}))
                while not moving.done():
                    await worker.clock.advance(0.1)
                again = [each for each in records if each.partition == what and each.offset not in worker.done]
                if again:
                    await worker.take(*again)
            elif step == "refuse":
                for connection in worker.mailer.opened[what::6]:
                    connection.usable = False
            else:
                await worker.clock.advance(what / 10)
                worker.handler.sweep()
        for _ in range(len(records) + 10):
            await worker.clock.advance(1.0)
            worker.handler.sweep()
        assert sorted(set(worker.done)) == sorted(each.offset for each in records)
        assert slow.busy == []
        await worker.settle()
        assert worker.senders.connections == 0
        assert (worker.senders._slots.taken, worker.senders._slots.general, worker.senders._slots.leaving) == (0, 0, 0)
        assert all(flow.attending == 0 for lane in worker.handler.lanes.values() for flow in lane.flows.values())
        await worker.close()

    asyncio.run(run())


@pytest.mark.timeout(20)
def test_an_urgent_mail_that_somebody_is_on_the_way_to_take_does_not_stand_in_the_line_for_bulk() -> None:
    """There is room for urgent mail alone: whoever calls those who wait must come to an end."""
    chooser = WeightedChooser(PRIORITY_WEIGHTS)
    slots = Slots(lambda: 4, Priorities(reserve=0.5), chooser)
    seats: list[Any] = []
    desk = Desk(MemoryClock(), seats.append)
    nowhere: Any = None
    busy, other = (Flow(nowhere, nowhere, nowhere, (slots,), chooser) for _ in range(2))
    busy.greeted = other.greeted = True
    mail: Any = object()
    busy.queues[2].extend([mail] * 5)
    desk.staff(busy)
    assert len(seats) == slots.general == 2
    for seat in seats:
        busy.queues[2].popleft()
        desk.took(seat)
    other.queues[0].append(mail)
    desk.staff(other)
    other.queues[0].popleft()
    desk.took(seats[2])
    busy.queues[0].append(mail)
    desk.staff(busy)
    assert slots.taken == 4
    desk.left(seats[2])
    assert slots.taken == 3
    assert busy.unattended == 2
