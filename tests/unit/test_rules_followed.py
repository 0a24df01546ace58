"""Rules that change while mail flows: what lanes take over at once, what they keep, and which mail goes elsewhere."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deliver import Worker, rules_with

from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.compose.sites import Sites
from sluice.deliver.allowance import Allowance
from sluice.deliver.moves import SETTLE_S
from sluice.domain.adaptive import Give
from sluice.domain.mail import Mail, Progress, read_mail
from sluice.domain.routing import RouteTable
from sluice.domain.rules import Rules
from sluice.domain.shaping import IDLE, Gcra, Rate
from sluice.domain.site import Penalty, Site, SiteGroup, SiteRules, lane_partition
from sluice.domain.smtp import Replied
from sluice.domain.topics import READY, WHEEL
from sluice.domain.triggers import Fired, Trigger, Triggers, TriggerState
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction
from sluice.ports.resolver import MxHosts

NOW = 1_000_000.0
SERVICE = 0.05
TAKEN = Replied("dot", 250, "2.0.0 taken", "2.0.0")
rates = st.builds(Rate, st.floats(0.01, 1000), st.sampled_from([1.0, 60.0, 3600.0]), st.integers(1, 100))


def with_groups(rules: Rules, *groups: SiteGroup, penalty: Penalty | None = None) -> Rules:
    """The same with other sites."""
    return msgspec.structs.replace(rules, sites=SiteRules(rules.sites.default, groups, penalty))


def at_once(gcra: Gcra, state: float, now: float) -> int:
    """How many may leave at ``now``."""
    count = 0
    while count < 1000:
        state, allowed = gcra.allow(state, now)
        if not allowed:
            return count
        count += 1
    return count


@given(rates, rates, st.integers(0, 150), st.floats(0, 100))
def test_another_rate_brings_no_burst_that_was_not_there(was: Rate, now_rate: Rate, sent: int, later: float) -> None:
    """Nor does it take the one mail away that might have left."""
    before, after = Gcra.of(was), Gcra.of(now_rate)
    state = IDLE
    for _ in range(sent):
        state, _ = before.allow(state, NOW)
    now = NOW + later
    left = at_once(before, state, now)
    carried = before.carried(state, after, now)
    # One more or less is rounding: times are big numbers.
    assert min(left, now_rate.burst) - 1 <= at_once(after, carried, now) <= min(left + 1, now_rate.burst)
    assert after.ready_at(carried) - now <= after.interval * 1.001


def test_a_lower_rate_holds_from_the_next_mail_on() -> None:
    allowance = Allowance(Site(name="x", rate=Rate(100, 1.0, 10)), 0, NOW)
    for tick in range(100):
        allowance.turn(NOW + tick / 100, SERVICE)
    allowance.follow(Site(name="x", rate=Rate(1, 1.0, 1)), 0, Penalty(), NOW + 1.0, SERVICE)
    sent = sum(not allowance.turn(NOW + 1.0 + tick / 100, SERVICE) for tick in range(1000))
    assert 9 <= sent <= 11


def test_a_rate_where_there_was_none_begins_without_a_burst() -> None:
    """Nobody has counted what was sent until then."""
    allowance = Allowance(Site(name="x"), 0, NOW)
    allowance.follow(Site(name="x", rate=Rate(10, 1.0, 50)), 0, Penalty(), NOW, SERVICE)
    assert [round(allowance.turn(NOW, SERVICE), 3) for _ in range(3)] == [0.0, 0.1, 0.1]
    allowance.follow(Site(name="x"), 0, Penalty(), NOW, SERVICE)
    assert allowance.turn(NOW, SERVICE) == 0.0


def test_what_a_lane_has_learnt_goes_on_under_other_rules() -> None:
    """Its pause, how far it gave way, its penalty until it ends, and failures in a row."""
    allowance = Allowance(Site(name="x", rate=Rate(100, 1.0, 1)), 0, NOW, Give(recover=900.0))
    allowance.asked_for_less(NOW)
    allowance.penalise(Penalty(Rate(1, 60.0, 1), 1, 5400.0), NOW, "one")
    allowance.pause(NOW + 60.0, "rule x")
    allowance.connect_failed(NOW, "two")
    penalty = Penalty(Rate(2, 60.0, 1), 2, 60.0)
    allowance.follow(Site(name="x", rate=Rate(10, 1.0, 1), connections=8), 0, penalty, NOW, SERVICE)
    assert allowance.rate(NOW, SERVICE) == Rate(5.0, 1.0, 1)
    assert allowance.rate(NOW, SERVICE, "one") == Rate(2, 60.0, 1)
    assert allowance.rate(NOW + 5399.0, SERVICE, "one") == Rate(2, 60.0, 1)
    assert allowance.connections_through("one", NOW) == 2
    assert allowance.paused(NOW)[0] == NOW + 60.0
    assert allowance.state().failed_connects == 1


def test_slots_that_were_booked_come_later_by_as_much_as_the_rate_is_lower() -> None:
    """Those booked before are spread over the longer time, and new ones stand behind them."""
    site = Site(name="x", rate=Rate(10, 1.0, 1))
    allowance = Allowance(site, 0, NOW)
    slots = [allowance.book(NOW, SERVICE, 2) for _ in range(100)]
    allowance.follow(msgspec.structs.replace(site, rate=Rate(1, 1.0, 1)), 0, Penalty(), NOW + 1.0, SERVICE)
    now = [allowance.slot_now(slot, NOW) for slot in slots]
    assert now[5] == slots[5]
    assert abs(now[-1] - (NOW + 1.0 + 10 * (slots[-1] - NOW - 1.0))) < 0.001
    behind = allowance.book(NOW + 1.0, SERVICE, 2)
    assert behind >= now[-1]
    assert allowance.slot_now(behind, NOW + 1.0) == behind


async def test_a_mail_comes_back_for_its_slot_once_more_when_the_rate_was_lowered() -> None:
    """And not again and again."""
    worker = Worker(rules=rules_with(rate=Rate(10, 1.0, 1)), patience=8.0)
    await worker.take(*(worker.record(worker.envelope(f"m{number}")) for number in range(200)))
    waiting = [record for topic in WHEEL.values() for record in worker.bus.all(topic)]
    assert len(waiting) > 100
    last = read_mail(waiting[-1].headers, b"")
    await worker.clock.advance(1.0)
    worker.handler.follow(rules_with(rate=Rate(1, 1.0, 1)))
    assert last.progress.slot is not None
    await worker.clock.advance(last.progress.slot - worker.clock.now())
    await worker.take(worker.record(last.envelope, progress=last.progress))
    (again,) = worker.outcomes("deferred")[-1:]
    assert again.message_id == last.envelope.message_id
    assert again.next_attempt_at is not None
    left = again.next_attempt_at.timestamp() - worker.clock.now()
    assert 100 < left < 200, left
    await worker.close()


async def test_connections_beyond_a_lower_limit_are_closed_as_their_mails_end() -> None:
    """None is cut off."""
    go = asyncio.Event()

    async def wait(_: Transaction) -> Replied:
        await go.wait()
        return TAKEN

    worker = Worker(rules=rules_with(rate=None, connections=6))
    worker.mailer.answer("mx.test", wait)
    await worker.take(*(worker.record(worker.envelope(f"m{number}")) for number in range(30)))
    assert worker.senders.connections == 5, "one is kept for the highest priority"
    worker.handler.follow(rules_with(rate=None, connections=2))
    await worker.settle()
    assert worker.senders.connections == 5, "one is kept for the highest priority"
    go.set()
    await worker.clock.advance(1.0)
    worker.handler.sweep()
    await worker.settle()
    assert worker.senders.connections <= 2
    assert len(worker.mailer.taken) == 30
    await worker.close()


async def test_mail_whose_domain_is_another_sites_now_goes_to_that_sites_lane() -> None:
    """What waits in memory too; what is under way ends as it does."""
    rules = rules_with(rate=Rate(1, 60.0, 1))
    worker = Worker(rules=rules, patience=1e6)
    await worker.take(*(worker.record(worker.envelope(f"m{number}")) for number in range(5)))
    assert len(worker.mailer.taken) == 1
    group = SiteGroup(Site(name="big", rate=Rate(100, 1.0, 1)), ("site.example",))
    worker.handler.follow(with_groups(rules, group))
    await worker.settle()
    sent_on = list(worker.bus.all(READY["normal"]))
    mails = [read_mail(record.headers, b"") for record in sent_on]
    assert {(mail.envelope.site, mail.envelope.lane, mail.progress.moves) for mail in mails} == {("big", "big#0", 1)}
    assert {record.partition for record in sent_on} == {lane_partition("big#0", worker.partitions)}
    assert len(mails) == 4
    assert sorted(worker.done) == [0, 1, 2, 3, 4]
    await worker.close()


async def test_a_mail_that_moves_books_its_time_anew_and_keeps_that_of_a_limit_that_goes_with_it() -> None:
    rules = rules_with()
    worker = Worker(rules=with_groups(rules, SiteGroup(Site(name="big"), ("site.example",))))
    until = worker.clock.now() + 5.0
    own, shared = Progress(slot=until), Progress(slot=until, slot_of="shared")
    await worker.take(worker.record(worker.envelope("m1"), progress=own))
    await worker.take(worker.record(worker.envelope("m2"), progress=shared))
    mails = [read_mail(record.headers, b"") for record in worker.bus.all(READY["normal"])]
    assert [mail.progress.slot for mail in mails] == [None, until]
    await worker.close()


async def test_workers_that_disagree_about_a_lane_do_not_pass_its_mail_to_and_fro_without_rest() -> None:
    """A mail that was sent on rests in the wheel before it is sent on again, longer each time."""
    old = rules_with()
    new = with_groups(old, SiteGroup(Site(name="big"), ("site.example",)))
    one, other = Worker(rules=new), Worker(rules=old)
    envelope, progress = one.envelope("m1"), None
    rests: list[float] = []
    for number, worker in enumerate((one, other, one, other)):
        await worker.take(worker.record(envelope, progress=progress, offset=number))
        rest, mail = passed_on(worker)
        rests.append(rest)
        envelope, progress = mail.envelope, mail.progress
    assert rests == [0.0, 10.0, 20.0, 40.0]
    assert [len(worker.mailer.taken) for worker in (one, other)] == [0, 0]
    await one.close()
    await other.close()


def passed_on(worker: Worker) -> tuple[float, Mail]:
    """The mail that the worker passed on last, and how long it rests before."""
    ready, wheel = (
        list(worker.bus.all(READY["normal"])),
        [each for topic in WHEEL.values() for each in worker.bus.all(topic)],
    )
    mails = [(0.0, record) for record in ready] + [
        (int(dict(record.headers)["not-before"]) / 1000 - worker.clock.now(), record) for record in wheel
    ]
    rest, record = max(mails, key=lambda each: read_mail(each[1].headers, b"").progress.moves)
    return rest, read_mail(record.headers, b"")


async def test_lanes_of_a_site_that_has_another_number_of_them_wait_until_all_workers_know() -> None:
    """The owners of the old ones may go on sending until then."""
    group = SiteGroup(Site(name="site.example", lanes=1, rate=Rate(10, 1.0, 1)), ("site.example",))
    more = msgspec.structs.replace(group, site=msgspec.structs.replace(group.site, lanes=3))
    rules = rules_with()
    worker = Worker(rules=with_groups(rules, group))
    worker.handler.follow(with_groups(rules, more))
    for number in range(20):
        name = f"m{number}"
        await worker.take(*(_in_any_lane(worker, name, lane) for lane in range(3)))
    assert not worker.mailer.taken
    await worker.clock.advance(SETTLE_S + 1)
    await worker.take(*(_in_any_lane(worker, "later", lane, offset=1000 + lane) for lane in range(3)))
    await worker.settle()
    assert worker.mailer.taken
    await worker.close()


def _in_any_lane(worker: Worker, name: str, lane: int, offset: int | None = None) -> Taken:
    return worker.record(worker.envelope(f"{name}-{lane}", lane=f"site.example#{lane}"), offset=offset)


def test_triggers_in_force_follow_their_new_words_and_end_with_them() -> None:
    """What they have counted is kept."""
    was = Trigger(id="a", action="lower_rate", factor=0.5, lasts=60.0, codes=("421",))
    other = Trigger(id="b", action="lower_connections", connections=1, lasts=60.0, codes=("421",))
    state = TriggerState(
        {("a", ""): (NOW,), ("gone", ""): (NOW,)},
        {("a", ""): Fired(was, "", NOW + 60.0), ("b", ""): Fired(other, "", NOW + 60.0)},
    )
    triggers = Triggers([msgspec.structs.replace(was, factor=0.1)])
    carried = triggers.carried(state)
    assert triggers.effects(carried, NOW).cuts == ((0.1, NOW + 60.0),)
    assert triggers.effects(carried, NOW).connections is None
    assert set(carried.counted) == {("a", "")}


async def test_a_trigger_that_is_taken_out_of_the_rules_lets_its_lane_go() -> None:
    trigger = Trigger(id="a", action="lower_rate", factor=0.5, lasts=600.0, codes=("421",))
    rules = msgspec.structs.replace(rules_with(rate=Rate(10, 1.0, 1)), triggers=Triggers([trigger]))
    worker = Worker(rules=rules)
    worker.mailer.answer("m0@site.example", Replied("mail", 421, "4.3.2 busy", "4.3.2"))
    await worker.take(worker.record(worker.envelope("m0")))
    (lane,) = worker.handler.lanes.values()
    assert lane.allowance.rate(worker.clock.now(), SERVICE) == Rate(5.0, 1.0, 1)
    worker.handler.follow(msgspec.structs.replace(rules, triggers=Triggers()))
    assert lane.allowance.rate(worker.clock.now(), SERVICE) == Rate(10, 1.0, 1)
    await worker.close()


async def test_compose_follows_other_rules_without_asking_dns_again() -> None:
    """What DNS said is kept, not the site that followed from it."""
    resolver = MemoryResolver({"a.example": MxHosts(((10, "mx.big.example"),), 300.0)})
    sites = Sites(SiteRules(Site(name="")), RouteTable.parse("*=mx"), resolver, MemoryClock())
    assert (await sites.find("a.example")).name == "mx.big.example"
    sites.follow(SiteRules(Site(name=""), [SiteGroup(Site(name="big"), mx=("big.example",))]))
    known = sites.known("a.example")
    assert known is not None
    assert known.name == sites.settled("a.example").name == "big"
