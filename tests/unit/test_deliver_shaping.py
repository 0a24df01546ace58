"""How deliver shapes: what sites, triggers and operators say of a lane, and how lanes move."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.deliver import Gate, Worker, rules_with

from sluice.deliver.growth import SETTLE_S
from sluice.domain.lanes import FOREVER, LaneState
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, encode_checkpoint
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Replied
from sluice.domain.topics import OUTCOME, READY
from sluice.domain.triggers import Trigger, Triggers
from sluice.ports.bus import Record

SLOWER = Replied("mail", 421, "4.7.0 too many messages from your address, slow down", "4.7.0")


async def test_a_site_that_asks_for_less_gets_less_and_the_next_owner_knows() -> None:
    """The lane's rate is halved, and its state goes over in the last checkpoint."""
    worker = Worker(rules=rules_with(rate=Rate(100, 1.0, 1)))
    worker.mailer.answer("m0@site.example", SLOWER)
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    (lane,) = worker.handler.lanes.values()
    assert lane.allowance.rate(worker.clock.now(), 0.05) == Rate(50.0, 1.0, 1)
    written: list[Checkpoint] = []

    async def last_words(partitions: set[int]) -> None:
        written.extend(Checkpoint({}, [], worker.handler.lane_states(number)) for number in partitions)

    worker.handler.before_leaving = last_words
    await worker.handler.revoked({record.partition})
    assert worker.handler.lanes == {}
    (checkpoint,) = written
    headers = [("ce_type", CHECKPOINT_TYPE.encode())]
    await worker.bus.publish(Record(OUTCOME, encode_checkpoint(checkpoint), None, headers, record.partition))
    successor = Worker(bus=worker.bus, clock=worker.clock, rules=rules_with(rate=Rate(100, 1.0, 1)))
    await successor.take(successor.record(successor.envelope("m9"), offset=50))
    (lane,) = successor.handler.lanes.values()
    rate = lane.allowance.rate(worker.clock.now(), 0.05)
    assert rate is not None
    assert rate.count == pytest.approx(50.0)
    await successor.close()


async def test_what_was_learnt_of_a_lane_is_passed_on_though_no_mail_came_for_it() -> None:
    """The owner in between had nothing to send there."""
    worker = Worker()
    home = lane_partition("site.example#0", worker.partitions)
    learnt = LaneState(paused_until=worker.clock.now() + 60.0, paused_why="rule x", failed_connects=3)
    headers = [("ce_type", CHECKPOINT_TYPE.encode())]
    value = encode_checkpoint(Checkpoint({}, [], {"site.example#0": learnt}))
    await worker.bus.publish(Record(OUTCOME, value, None, headers, home))
    await worker.handler.assigned(home)
    assert worker.handler.lane_states(home) == {"site.example#0": learnt}
    assert worker.handler.lane_states((home + 1) % worker.partitions) == {}


async def test_connections_are_closed_before_a_lane_goes_to_another_worker() -> None:
    """A site allows so many connections to all workers together."""
    worker = Worker()
    record = worker.record(worker.envelope("m1"))
    await worker.take(record)
    assert worker.senders.connections == 1
    assert worker.mailer.opened[0].usable
    await worker.handler.revoked({record.partition})
    assert worker.senders.connections == 0
    assert not worker.mailer.opened[0].usable


async def test_a_lane_just_opened_has_no_burst_to_spend() -> None:
    """Its owner before may have spent it a moment ago."""
    worker = Worker(rules=rules_with(rate=Rate(10, 1.0, 10)), patience=60.0)
    for number in range(20):
        await worker.take(worker.record(worker.envelope(f"m{number}")))
    assert len(worker.mailer.taken) <= 1
    await worker.clock.advance(1.0)
    assert len(worker.mailer.taken) <= 11
    await worker.close()


async def test_new_connections_are_opened_no_faster_than_the_site_allows() -> None:
    """Two a minute, here."""
    worker = Worker(rules=rules_with(connections=10, connect_rate=Rate(2, 60.0, 2), rate=None), patience=300.0)
    gate = Gate()
    for number in range(8):
        worker.mailer.answer(f"m{number}@site.example", gate)
        await worker.take(worker.record(worker.envelope(f"m{number}")))
    assert len(worker.mailer.opened) == 2
    await worker.clock.advance(60)
    assert 3 <= len(worker.mailer.opened) <= 4
    gate.set()
    await worker.close()


async def test_when_partitions_are_added_a_lane_is_let_go_by_one_worker_before_another_takes_it() -> None:
    """Queued mails go to the new home; there nothing is sent until everybody has noticed."""
    worker = Worker(rules=rules_with(connections=1), patience=60.0)
    gate = Gate()
    worker.mailer.answer("m0@site.example", gate)
    records = [worker.record(worker.envelope(f"m{number}")) for number in range(4)]
    await worker.take(*records)
    worker.handler.sweep()
    grown = next(count for count in range(5, 40) if lane_partition("site.example#0", count) != records[0].partition)
    home = lane_partition("site.example#0", grown)
    worker.bus.grow(READY["normal"], grown)
    worker.partitions = grown
    worker.handler.sweep()
    await worker.settle()
    assert len(worker.bus.stored[READY["normal"], home]) == 3
    assert sorted(worker.done) == [1, 2, 3]
    gate.set()
    for _ in range(10):
        await worker.clock.advance(0.05)
    assert sorted(worker.done) == [0, 1, 2, 3]
    assert worker.senders.connections == 0
    await worker.take(worker.record(worker.envelope("late"), offset=70))
    assert len(worker.mailer.taken) == 1
    await worker.clock.advance(SETTLE_S)
    assert len(worker.mailer.taken) == 2
    await worker.close()


async def test_a_lane_that_growth_takes_while_its_partition_goes_is_gone_once() -> None:
    """Both may happen at one moment: workers join when partitions are added."""
    worker = Worker()
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    worker.handler.sweep()
    grown = next(count for count in range(5, 40) if lane_partition("site.example#0", count) != record.partition)

    async def grow(_: set[int]) -> None:
        worker.bus.grow(READY["normal"], grown)
        worker.partitions = grown
        worker.handler.sweep()

    worker.handler.before_leaving = grow
    assert "site.example#0" in worker.handler.lanes
    await worker.handler.revoked({record.partition})
    assert "site.example#0" not in worker.handler.lanes
    await worker.close()


async def test_mail_that_was_read_at_its_new_home_before_the_growth_was_noticed_stays_there() -> None:
    """The count of partitions is known a moment before lanes are looked through; what came meanwhile is at home."""
    worker = Worker(rules=rules_with(connections=1), patience=60.0)
    worker.handler.sweep()
    grown = next(
        count
        for count in range(5, 40)
        if lane_partition("site.example#0", count) != lane_partition("site.example#0", worker.partitions)
    )
    worker.bus.grow(READY["normal"], grown)
    worker.bus.grow(OUTCOME, grown)
    worker.partitions = grown
    gate = Gate()
    worker.mailer.answer("m0@site.example", gate)
    records = [worker.record(worker.envelope(f"m{number}")) for number in range(4)]
    await worker.take(*records)
    assert worker.done == []
    worker.handler.sweep()
    await worker.settle()
    assert worker.bus.stored[READY["normal"], records[0].partition] == []
    gate.set()
    for _ in range(20):
        await worker.clock.advance(1.0)
        worker.handler.sweep()
    assert sorted(each.transaction.rcpt_to for each in worker.mailer.taken) == [f"m{n}@site.example" for n in range(4)]
    assert sorted(worker.done) == [0, 1, 2, 3]
    await worker.close()


async def test_a_kind_of_reply_that_comes_often_lowers_the_rate_for_a_while() -> None:
    """Three in a minute, here; then the site's own rate again."""
    trigger = Trigger(id="often", action="lower_rate", factor=0.25, count=3, within=60.0, lasts=600.0, codes=("452",))
    rules = msgspec.structs.replace(rules_with(rate=Rate(100, 1.0, 1)), triggers=Triggers([trigger]))
    worker = Worker(rules=rules)
    for number in range(3):
        worker.mailer.answer(f"m{number}@site.example", Replied("rcpt", 452, "4.2.2 mailbox is full", "4.2.2"))
        await worker.take(worker.record(worker.envelope(f"m{number}")))
        await worker.clock.advance(1.0)
    (lane,) = worker.handler.lanes.values()
    assert lane.allowance.rate(worker.clock.now(), 0.05) == Rate(25.0, 1.0, 1)
    await worker.clock.advance(600.0)
    worker.handler.sweep()
    assert lane.allowance.rate(worker.clock.now(), 0.05) == Rate(100, 1.0, 1)
    await worker.close()


async def test_a_campaign_that_a_site_refuses_waits_and_other_mail_goes_on() -> None:
    """One sender's list must not cost the others their place."""
    trigger = Trigger(id="campaign", action="suspend_campaign", lasts=3600.0, codes=("554",))
    worker = Worker(rules=msgspec.structs.replace(rules_with(), triggers=Triggers([trigger])))
    worker.mailer.answer("m0@site.example", Replied("dot", 554, "5.7.1 content rejected", "5.7.1"))
    await worker.take(worker.record(worker.envelope("m0", campaign_id="spring")))
    await worker.take(worker.record(worker.envelope("m1", campaign_id="spring")))
    await worker.take(worker.record(worker.envelope("m2", campaign_id="summer")))
    await worker.clock.advance(0.1)
    assert [taken.transaction.rcpt_to for taken in worker.mailer.taken] == ["m2@site.example"]
    assert [outcome.message_id for outcome in worker.outcomes("deferred")] == ["m1"]
    await worker.close()


async def test_an_operator_suspends_a_site_and_takes_it_back() -> None:
    """Within a second, for what is queued and what comes."""
    suspended: dict[str, float] = {}
    worker = Worker(suspended_until=lambda site: suspended.get(site, 0.0))
    await worker.take(worker.record(worker.envelope("m0")))
    suspended["site.example"] = FOREVER
    worker.handler.sweep()
    await worker.take(worker.record(worker.envelope("m1")))
    assert len(worker.mailer.taken) == 1
    assert [left for _, left in worker.waiting()] == [pytest.approx(300.0)]
    suspended.clear()
    worker.handler.sweep()
    await worker.take(worker.record(worker.envelope("m2")))
    await worker.clock.advance(0.1)
    assert len(worker.mailer.taken) == 2
    await worker.close()


async def test_urgent_mail_is_not_put_off_behind_a_bulk_backlog() -> None:
    """Neither for the slots that bulk has booked, nor for the connections that it keeps busy."""
    worker = Worker(rules=rules_with(rate=Rate(1, 1.0, 1), connections=1))
    for number in range(60):
        await worker.take(worker.record(worker.envelope(f"b{number}", priority="bulk")))
    assert len(worker.waiting()) > 40
    before = len(worker.waiting())
    await worker.take(worker.record(worker.envelope("urgent", priority="high")))
    assert len(worker.waiting()) == before
    await worker.clock.advance(2.1)
    assert "urgent@site.example" in [taken.transaction.rcpt_to for taken in worker.mailer.taken]
    await worker.close()


async def test_a_site_that_got_a_mail_once_is_forgotten_and_one_that_taught_us_something_is_not() -> None:
    """A worker that has written to a million domains keeps none of them in memory an hour later."""
    worker = Worker(rules=rules_with(rate=Rate(100, 1.0, 1)))
    worker.mailer.answer("m1@slow.example", SLOWER)
    await worker.take(worker.record(worker.envelope("m0", domain="quick.example")))
    await worker.take(worker.record(worker.envelope("m1", domain="slow.example")))
    for _ in range(14):
        await worker.clock.advance(60.0)
        worker.handler.sweep()
    assert set(worker.handler.lanes) == {"quick.example#0", "slow.example#0"}
    await worker.clock.advance(61.0)
    worker.handler.sweep()
    assert set(worker.handler.lanes) <= {"slow.example#0"}
    await worker.clock.advance(3600.0)
    worker.handler.sweep()
    assert worker.handler.lanes == {}
    await worker.take(worker.record(worker.envelope("m2", domain="quick.example")))
    await worker.clock.advance(1.0)
    assert "m2@quick.example" in [taken.transaction.rcpt_to for taken in worker.mailer.taken]
    await worker.close()


async def test_what_a_trigger_or_a_penalty_keeps_is_not_forgotten_before_it_ends() -> None:
    trigger = Trigger(id="often", action="lower_rate", factor=0.25, lasts=7200.0, codes=("452",))
    worker = Worker(rules=msgspec.structs.replace(rules_with(rate=Rate(100, 1.0, 1)), triggers=Triggers([trigger])))
    worker.mailer.answer("m0@site.example", Replied("rcpt", 452, "4.2.2 mailbox is full", "4.2.2"))
    await worker.take(worker.record(worker.envelope("m0")))
    await worker.clock.advance(7000.0)
    worker.handler.sweep()
    await worker.settle()
    worker.handler.sweep()
    (lane,) = worker.handler.lanes.values()
    assert lane.allowance.rate(worker.clock.now(), 0.05) == Rate(25.0, 1.0, 1)
    await worker.clock.advance(300.0)
    worker.handler.sweep()
    assert worker.handler.lanes == {}
    await worker.close()
