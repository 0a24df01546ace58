"""Which mail goes when, and on which lane: stories over the twins, with time that is moved."""

from __future__ import annotations

import itertools

import pytest
from tests.support.deliver import PARTITIONS, Gate, Worker, rules_with

from sluice.adapters.memory.resolver import MemoryResolver
from sluice.domain.mail import read_mail
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Broken, Replied
from sluice.domain.topics import READY
from sluice.ports.mailer import Transaction
from sluice.ports.resolver import LookupFailed, MxHosts, NullMx


async def test_a_mail_of_another_lane_is_forwarded_to_its_owner() -> None:
    """After a change of partition count: never sent by whoever reads it."""
    worker = Worker()
    home = lane_partition("site.example#0", PARTITIONS)
    record = worker.record(worker.envelope("m1"), partition=(home + 1) % PARTITIONS)
    await worker.take(record)
    assert worker.mailer.opened == []
    assert len(worker.bus.stored[record.topic, home]) == 1
    assert worker.done == [0]


async def test_a_mail_whose_hosts_belong_to_another_site_moves_to_that_lane() -> None:
    """Compose could not look the domain up, deliver can: the mail must count against the real site's limit."""
    resolver = MemoryResolver({"site.example": MxHosts(((10, "mx.big.example"),), 300.0)}, {})
    worker = Worker(routes="*=mx", resolver=resolver)
    await worker.take(worker.record(worker.envelope("m1")))
    (moved,) = [each for topic in READY.values() for each in worker.bus.all(topic)]
    mail = read_mail(moved.headers, moved.value or b"")
    assert mail.envelope.lane == "mx.big.example#0"
    assert mail.progress.round == 1
    assert worker.done == [0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(LookupFailed("servfail"), "deferred"), (NullMx(300.0), "bounced")],
)
async def test_dns_decides_between_later_and_never(answer: LookupFailed | NullMx, kind: str) -> None:
    """SERVFAIL is deferred, null MX bounced (row 17)."""
    worker = Worker(routes="*=mx", resolver=MemoryResolver({"site.example": answer}, {}))
    await worker.take(worker.record(worker.envelope("m1")))
    assert [outcome.event_type for outcome in worker.outcomes()] == [kind]


async def test_a_site_never_sees_more_connections_or_mails_than_it_allows() -> None:
    """Two connections, ten mails a second, with a burst of one."""
    worker = Worker(rules=rules_with(connections=2, rate=Rate(10, 1.0, 1)), patience=60.0)
    for number in range(30):
        await worker.take(worker.record(worker.envelope(f"m{number}")))
    sent: list[int] = []
    for _ in range(40):
        sent.append(len(worker.mailer.taken))
        await worker.clock.advance(0.1)
    assert max(later - sooner for sooner, later in zip(sent, sent[10:], strict=False)) <= 11
    assert len(worker.mailer.taken) == 30
    assert len(worker.mailer.opened) <= 2
    await worker.close()


async def test_a_backlog_over_the_rate_waits_in_the_wheel_each_mail_for_a_slot_of_its_own() -> None:
    """One pass through the wheel, not a carousel."""
    worker = Worker(rules=rules_with(rate=Rate(60, 60.0, 1)), patience=8.0)
    for number in range(40):
        await worker.take(worker.record(worker.envelope(f"m{number}")))
    left = sorted(seconds for _, seconds in worker.waiting())
    assert len(left) >= 30
    assert all(abs((later - sooner) - 1.0) < 0.01 for sooner, later in itertools.pairwise(left))
    assert all(outcome.category == "throttled" for outcome in worker.outcomes("deferred"))
    await worker.close()


async def test_a_slow_site_does_not_hold_the_mail_of_others() -> None:
    """Its queue in memory is bounded by patience; the rest waits in the wheel."""
    worker = Worker(rules=rules_with(connections=1))

    async def slow(_: Transaction) -> Replied:
        await worker.clock.sleep(60)
        return Replied("dot", 250, "ok")

    for number in range(20):
        worker.mailer.answer(f"s{number}@slow.example", slow)
        envelope = worker.envelope(f"s{number}", domain="slow.example")
        await worker.take(worker.record(envelope))
    await worker.take(worker.record(worker.envelope("quick")))
    assert [taken.transaction.rcpt_to for taken in worker.mailer.taken] == ["quick@site.example"]
    await worker.clock.advance(20)
    worker.senders.sweep(list(worker.handler.lanes.values()))
    await worker.settle()
    assert len(worker.waiting()) == 19
    await worker.close()


async def test_one_silent_connection_does_not_have_mails_put_off_that_the_others_can_take() -> None:
    """Three of four serve five mails a second each: what has just come waits for them in memory, not in the wheel.

    While the fourth is silent, and after its five minutes have ended.
    """
    worker = Worker(rules=rules_with(connections=4))
    silent = Gate()

    async def usual(_: Transaction) -> Replied:
        await worker.clock.sleep(0.2)
        return Replied("dot", 250, "ok")

    worker.mailer.answer("silent@site.example", silent)
    await worker.take(worker.record(worker.envelope("silent")))
    await worker.clock.advance(300)
    for each in ("during", "after"):
        for number in range(40):
            worker.mailer.answer(f"{each}{number}@site.example", usual)
            await worker.take(worker.record(worker.envelope(f"{each}{number}")))
        assert worker.waiting() == []
        for _ in range(20):
            await worker.clock.advance(0.2)
        silent.set()
        await worker.settle()
    assert len(worker.outcomes("delivered")) == 81
    await worker.close()


async def test_urgent_mail_goes_before_bulk_that_came_first() -> None:
    """And bulk still gets its turns."""
    worker = Worker(rules=rules_with(connections=1))
    gate = Gate()
    worker.mailer.answer("first@site.example", gate)
    await worker.take(worker.record(worker.envelope("first", priority="bulk")))
    for number in range(40):
        await worker.take(worker.record(worker.envelope(f"b{number}", priority="bulk")))
    for number in range(40):
        await worker.take(worker.record(worker.envelope(f"h{number}", priority="high")))
    gate.set()
    for _ in range(12):
        await worker.clock.advance(0.1)
    order = [taken.transaction.rcpt_to[0] for taken in worker.mailer.taken][1:35]
    assert order.count("h") >= 30
    assert order.count("b") >= 1
    await worker.close()


async def test_a_site_that_cannot_be_reached_is_left_alone_for_a_while() -> None:
    """The circuit opens: mails go to the wheel without an attempt each."""
    worker = Worker()
    worker.mailer.refuse("mx.test", *[Broken("connect", "refused")] * 50)
    for number in range(12):
        await worker.take(worker.record(worker.envelope(f"m{number}")))
    refused = [outcome for outcome in worker.outcomes("deferred") if outcome.category != "throttled"]
    assert 1 <= len(refused) <= 11
    before = len(worker.mailer.opened)
    await worker.take(worker.record(worker.envelope("late")))
    assert len(worker.mailer.opened) == before
    await worker.close()


async def test_a_connection_closed_while_idle_costs_no_attempt() -> None:
    """Servers close idle connections as they like."""
    worker = Worker()
    await worker.take(worker.record(worker.envelope("m1")))
    worker.mailer.answer("m2@site.example", Broken("mail", "disconnected"), Replied("dot", 250, "ok"))
    await worker.take(worker.record(worker.envelope("m2")))
    await worker.clock.advance(0.1)
    assert [outcome.attempt for outcome in worker.outcomes("delivered")] == [1, 1]
    assert worker.waiting() == []
    await worker.close()
