"""What deliver does with one mail: stories over the twins, with time that is moved."""

from __future__ import annotations

from tests.support.deliver import PARTITIONS, Worker, rules_with

from sluice.domain.mail import Progress, read_mail
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Replied, Result, Unknown
from sluice.domain.topics import DEAD, READY, SUPPRESSIONS, WHEEL
from sluice.ports.bus import NotStored
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction
from sluice.ports.records import replay_record

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
