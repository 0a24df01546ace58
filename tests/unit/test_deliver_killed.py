"""What a deliver worker leaves behind when it is killed or a partition leaves it, and what its successor does."""

from __future__ import annotations

import asyncio

from tests.support.deliver import Gate, Worker, rules_with

from sluice.domain.smtp import Replied, Unknown
from sluice.domain.topics import DEAD, WHEEL
from sluice.ports.bus import Position, Record
from sluice.ports.held import still_held
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction

LATER = Replied("rcpt", 451, "4.7.1 greylisted, try again later", "4.7.1")


async def crash_after(worker: Worker, *records: Taken) -> Worker:
    """The records are read again by a new owner with an empty memory; its mailer and log are the same."""
    successor = Worker(bus=worker.bus, clock=worker.clock, mailer=worker.mailer)
    await successor.take(*records)
    return successor


async def test_killed_while_a_mail_is_set_aside_it_is_set_aside_once_more_and_never_ended_without_its_bytes() -> None:
    """The letter goes first: an outcome ``held`` without it would be a mail that nobody can release."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", Unknown("timeout"))
    record = worker.record(worker.envelope("m1", in_doubt="hold"))
    stored, letters = worker.bus.publish, 0

    def publish(published: Record) -> asyncio.Future[Position]:
        nonlocal letters
        letters += published.topic == DEAD
        if letters and published.topic != DEAD:
            return asyncio.get_running_loop().create_future()
        return stored(published)

    worker.bus.publish = publish  # type: ignore[method-assign]
    await worker.take(record)
    assert letters == 1
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted", "in_doubt"]
    assert worker.done == []
    worker.bus.publish = stored  # type: ignore[method-assign]
    successor = await crash_after(worker, record)
    assert successor.done == [0]
    assert [outcome.event_type for outcome in successor.outcomes()][-1] == "held"
    letters_now = [
        Taken(DEAD, 0, offset, one.key, one.value, one.headers, 0.0) for offset, one in enumerate(worker.bus.all(DEAD))
    ]
    assert [held.name for held in still_held(letters_now)] == ["m1/0"]
    assert worker.mailer.taken == []
    await successor.close()


async def test_killed_after_the_outcome_the_mail_is_not_sent_again() -> None:
    """Row 4 of the fault table."""
    worker = Worker()
    record = worker.record(worker.envelope("m1"))
    await worker.take(record)
    successor = await crash_after(worker, record)
    assert len(worker.mailer.taken) == 1
    assert successor.done == [0]
    await worker.close()


async def test_killed_between_attempt_and_outcome_the_mail_is_in_doubt_and_sent_once_more() -> None:
    """Rows 2 and 3: at most one extra copy, with the same Message-ID."""
    worker = Worker()
    never = asyncio.Event()

    async def hangs(_: Transaction) -> Replied:
        await never.wait()
        raise AssertionError

    worker.mailer.answer("m1@site.example", hangs, Replied("dot", 250, "ok"))
    record = worker.record(worker.envelope("m1"))
    await worker.take(record)
    await worker.close()
    successor = await crash_after(worker, record)
    kinds = [outcome.event_type for outcome in successor.outcomes()]
    assert kinds == ["attempted", "in_doubt", "attempted", "delivered"]
    assert successor.outcomes("delivered")[0].attempt == 2
    await successor.close()


async def test_killed_between_the_deferral_and_the_wheel_the_mail_waits_once() -> None:
    """Row 26: put off again until the same time, and its second copy is dropped when it comes back."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", LATER, Replied("dot", 250, "ok"))
    record = worker.record(worker.envelope("m1"))
    await worker.take(record)
    successor = await crash_after(worker, record)
    copies = [each for topic in WHEEL.values() for each in worker.bus.all(topic)]
    assert len(copies) == 2
    assert len({dict(each.headers)["not-before"] for each in copies}) == 1
    await worker.clock.advance(60)
    back = [
        Taken(record.topic, record.partition, 100 + number, b"k", each.value, each.headers, 0.0)
        for number, each in enumerate(copies)
    ]
    await successor.take(*back)
    assert len(worker.mailer.taken) == 1
    assert sorted(successor.done) == [0, 100, 101]
    await worker.close()
    await successor.close()


async def test_a_partition_that_leaves_takes_back_what_has_not_begun_and_waits_for_what_has() -> None:
    """Another worker will read the rest; nothing is concluded twice."""
    worker = Worker(rules=rules_with(connections=1))
    gate = Gate()
    worker.mailer.answer("m0@site.example", gate)
    records = [worker.record(worker.envelope(f"m{number}")) for number in range(3)]
    await worker.take(*records)
    leaving = asyncio.create_task(worker.handler.revoked({records[0].partition}))
    await worker.settle()
    assert not leaving.done()
    gate.set()
    for _ in range(20):
        await worker.clock.advance(0.01)
    await leaving
    assert worker.done == [0]
    assert len(worker.mailer.taken) == 1
    await worker.close()


async def test_an_attempt_that_outlasts_the_drain_is_cut_off() -> None:
    """A reply that came now would conclude a mail that is another worker's by then."""
    worker = Worker()
    gate = Gate()
    worker.mailer.answer("m0@site.example", gate)
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    leaving = asyncio.create_task(worker.handler.revoked({record.partition}))
    await worker.settle()
    leaving.cancel()
    await worker.settle()
    gate.set()
    await worker.settle()
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted"]
    assert worker.done == []
    await worker.close()
