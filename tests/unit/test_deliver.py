"""What deliver does with a mail: stories over the twins, with time that is moved."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from tests.support.deliver import PARTITIONS, Worker, rules_with

from sluice.adapters.memory.resolver import MemoryResolver
from sluice.domain.mail import Progress, read_mail
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Broken, Replied, Result, Unknown
from sluice.domain.topics import DEAD, READY, SUPPRESSIONS, WHEEL
from sluice.ports.bus import NotStored, Position, Record
from sluice.ports.held import still_held
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction
from sluice.ports.records import replay_record
from sluice.ports.resolver import LookupFailed, MxHosts, NullMx

LATER = Replied("rcpt", 451, "4.7.1 greylisted, try again later", "4.7.1")
NOBODY = Replied("rcpt", 550, "5.1.1 no such user here", "5.1.1")


async def test_a_mail_is_written_down_before_it_is_tried_and_done_when_it_is_concluded() -> None:
    """The ledger's order, and the acknowledgement last."""
    worker = Worker()
    await worker.take(worker.record(worker.envelope("m1")))
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted", "delivered"]
    assert worker.done == [0]
    assert len(worker.mailer.taken) == 1
    await worker.close()


async def test_no_content_is_sent_when_the_attempt_cannot_be_written_down() -> None:
    """Without the ledger a crash could not be told from a delivery: the process stops instead."""
    worker = Worker()
    worker.bus.refusing = NotStored("broker away")
    await worker.take(worker.record(worker.envelope("m1")))
    assert worker.mailer.taken == []
    assert worker.done == []
    await worker.close()


async def test_a_deferred_mail_waits_in_the_wheel_and_its_outcome_says_until_when() -> None:
    """And it comes back as the next round, to the partition of its lane."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", LATER)
    await worker.take(worker.record(worker.envelope("m1", priority="bulk")))
    (deferred,) = worker.outcomes("deferred")
    assert deferred.attempt == 1
    assert deferred.next_attempt_at is not None
    ((tier, left),) = worker.waiting()
    assert (tier, round(left)) == ("5m", 300) or left > 60
    (record,) = [each for topic in WHEEL.values() for each in worker.bus.all(topic)]
    headers = dict(record.headers)
    home = lane_partition("site.example#0", PARTITIONS)
    assert headers["return-to"] == f"{READY['bulk']}:{home}".encode()
    assert read_mail(record.headers, record.value or b"").progress.round == 1
    assert worker.done == [0]
    await worker.close()


async def test_a_bounce_that_is_the_recipients_fault_suppresses_the_address() -> None:
    """For the tenant, from now on."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", NOBODY)
    await worker.take(worker.record(worker.envelope("m1")))
    (bounced,) = worker.outcomes("bounced")
    assert bounced.category == "invalid_recipient"
    assert bounced.fault == "recipient"
    assert [record.key for record in worker.bus.all(SUPPRESSIONS)] == [b"acme|*|m1@site.example"]
    await worker.close()


async def test_a_mail_whose_retry_would_come_after_its_end_expires() -> None:
    """The last reply stands in the outcome."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", LATER)
    await worker.take(worker.record(worker.envelope("m1", expires_at=worker.clock.now() + 5)))
    (expired,) = worker.outcomes("expired")
    assert expired.smtp is not None
    assert expired.smtp.code == 451
    assert worker.waiting() == []
    await worker.close()


async def test_a_mail_past_its_end_is_not_tried() -> None:
    """However it was delayed."""
    worker = Worker()
    await worker.take(worker.record(worker.envelope("m1", expires_at=worker.clock.now() - 1)))
    assert [outcome.event_type for outcome in worker.outcomes()] == ["expired"]
    assert worker.mailer.opened == []


async def test_silence_after_the_dot_is_in_doubt_and_sent_again_by_default() -> None:
    """After a wait, as the second attempt."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", Unknown("timeout"))
    await worker.take(worker.record(worker.envelope("m1")))
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted", "in_doubt", "deferred"]
    assert len(worker.waiting()) == 1
    await worker.close()


async def test_silence_after_the_dot_is_held_where_the_sender_wants_no_second_copy() -> None:
    """Kept whole among the dead letters, until somebody decides."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", Unknown("timeout"))
    await worker.take(worker.record(worker.envelope("m1", in_doubt="hold")))
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted", "in_doubt", "held"]
    assert len(worker.bus.all(DEAD)) == 1
    assert worker.waiting() == []
    assert worker.done == [0]
    await worker.close()


async def test_a_mail_on_which_a_step_fails_is_buried_and_the_others_are_sent() -> None:
    """Lost in memory it would keep everything behind it from being committed."""

    async def broken(_: Transaction) -> Result:
        raise KeyError("a defect")

    worker = Worker()
    worker.mailer.answer("m1@site.example", broken)
    await worker.take(worker.record(worker.envelope("m1")), worker.record(worker.envelope("m2")))
    await worker.clock.advance(5.0)
    await worker.settle()
    (dead,) = worker.outcomes("dead")
    assert (dead.message_id, dead.category) == ("m1", "step_failed")
    assert len(worker.bus.all(DEAD)) == 1
    assert [taken.transaction.rcpt_to for taken in worker.mailer.taken] == ["m2@site.example"]
    assert sorted(worker.done) == [0, 1]
    await worker.close()


async def test_a_held_mail_that_is_replayed_is_sent() -> None:
    """The operator decided; the ledger must not take it for a repeat."""
    worker = Worker()
    worker.mailer.answer("m1@site.example", Unknown("timeout"), Replied("dot", 250, "ok"))
    record = worker.record(worker.envelope("m1", in_doubt="hold"))
    await worker.take(record)
    (held,) = worker.bus.all(DEAD)
    letter = Taken(DEAD, 0, 0, held.key, held.value, held.headers, 0.0)
    again = replay_record(letter, record.topic, record.partition)
    await worker.take(Taken(record.topic, record.partition, 7, again.key, again.value, again.headers, 0.0))
    await worker.clock.advance(0.1)
    assert len(worker.mailer.taken) == 1
    assert sorted(worker.done) == [0, 7]
    await worker.close()


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


async def crash_after(worker: Worker, *records: Taken) -> Worker:
    """The records are read again by a new owner with an empty memory; its mailer and log are the same."""
    successor = Worker(bus=worker.bus, clock=worker.clock, mailer=worker.mailer)
    await successor.take(*records)
    return successor


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


async def test_urgent_mail_goes_before_bulk_that_came_first() -> None:
    """And bulk still gets its turns."""
    worker = Worker(rules=rules_with(connections=1))
    gate = asyncio.Event()

    async def wait(_: Transaction) -> Replied:
        await gate.wait()
        return Replied("dot", 250, "ok")

    worker.mailer.answer("first@site.example", wait)
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


async def test_an_undecodable_mail_is_buried_with_its_bytes_and_the_stream_goes_on() -> None:
    """Row 7."""
    worker = Worker()
    good = worker.record(worker.envelope("m1"))
    await worker.take(Taken(good.topic, good.partition, 99, b"k", b"junk", [], 0.0), good)
    (dead,) = worker.bus.all(DEAD)
    assert dead.value == b"junk"
    assert sorted(worker.done) == [0, 99]
    assert len(worker.mailer.taken) == 1
    await worker.close()


async def test_a_partition_that_leaves_takes_back_what_has_not_begun_and_waits_for_what_has() -> None:
    """Another worker will read the rest; nothing is concluded twice."""
    worker = Worker(rules=rules_with(connections=1))
    gate = asyncio.Event()

    async def wait(_: Transaction) -> Replied:
        await gate.wait()
        return Replied("dot", 250, "ok")

    worker.mailer.answer("m0@site.example", wait)
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
    gate = asyncio.Event()

    async def wait(_: Transaction) -> Replied:
        await gate.wait()
        return Replied("dot", 250, "ok")

    worker.mailer.answer("m0@site.example", wait)
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


async def test_where_the_time_went_is_recorded() -> None:
    """Every wait has a reason."""
    worker = Worker()
    now = worker.clock.now()
    progress = Progress(attempt=1, round=1, since=now - 30, reason="retry")
    await worker.take(worker.record(worker.envelope("m1"), progress=progress))
    (delivered,) = worker.outcomes("delivered")
    assert delivered.waits.retry == 30_000
    assert delivered.attempt == 2
    await worker.close()


async def test_a_wait_is_counted_once_and_the_attempt_is_none() -> None:
    """A mail that waited five seconds for its turn, and failed after seven, has waited five when it comes back."""
    worker = Worker(rules=rules_with(connections=1))

    async def slow(_: Transaction) -> Result:
        await worker.clock.sleep(5.0)
        return Replied("dot", 250, "2.0.0 taken")

    async def later(_: Transaction) -> Result:
        await worker.clock.sleep(7.0)
        return Replied("dot", 451, "4.7.1 later")

    worker.mailer.answer("m1@site.example", slow)
    worker.mailer.answer("m2@site.example", later)
    await worker.take(worker.record(worker.envelope("m1")), worker.record(worker.envelope("m2")))
    for seconds in (5.0, 7.0):
        await worker.clock.advance(seconds)
        await worker.settle()
    (deferred,) = worker.outcomes("deferred")
    assert (deferred.waits.connection, deferred.duration_ms) == (5_000, 7_000)
    (again,) = [record for topic in WHEEL.values() for record in worker.bus.all(topic)]
    assert read_mail(again.headers, again.value or b"").progress.waits.connection == 5_000
    await worker.close()
