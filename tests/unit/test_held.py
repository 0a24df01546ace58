"""Held mails: which wait for somebody, and what release and drop make of them."""

from __future__ import annotations

import dataclasses
from dataclasses import field

import msgspec
from tests.support.deliver import Worker

from sluice.adapters.memory.mailer import TAKEN
from sluice.domain.conclusion import Recorder
from sluice.domain.outcome import FINAL
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Unknown
from sluice.domain.topics import DEAD
from sluice.ports.bus import Record
from sluice.ports.held import Decision, Held, drop, is_held, is_note, note, release, still_held
from sluice.ports.intake import Taken
from sluice.ports.records import dead_record

DECISION = Decision("jo@laptop", "the site says it has none of them", 1_800_000_500.0)
RECORDER = Recorder("sluice mail", b"key")


@dataclasses.dataclass
class Dead:
    """``mail.dead``, as it is read."""

    letters: list[Taken] = field(default_factory=list)

    def add(self, *records: Record) -> None:
        for record in records:
            at = 1_800_000_000.0 + len(self.letters)
            self.letters.append(Taken(DEAD, 0, len(self.letters), record.key, record.value, record.headers, at))

    @property
    def held(self) -> list[Held]:
        return still_held(self.letters)


async def held_by(worker: Worker, *names: str) -> Dead:
    """Mails whose site was silent after the dot."""
    dead = Dead()
    for name in names:
        worker.mailer.answer(f"{name}@site.example", Unknown("timeout"))
        await worker.take(worker.record(worker.envelope(name, in_doubt="hold")))
        await worker.clock.advance(1.0)
        worker.mailer.answer(f"{name}@site.example", TAKEN)
    dead.add(*worker.bus.all(DEAD))
    return dead


async def test_what_is_held_waits_for_a_decision_and_other_dead_letters_do_not() -> None:
    worker = Worker()
    dead = await held_by(worker, "m1", "m2")
    odd = Taken("mail.send.normal", 0, 3, None, b"{", [], 0.0)
    dead.add(
        dead_record(odd, "value: not JSON"), dead_record(odd, "held in doubt: said somebody of a thing that is no mail")
    )
    assert [one.name for one in dead.held] == ["m1/0", "m2/0"]
    assert [one.reason for one in dead.held] == ["no reply after the final dot: timeout"] * 2
    assert [is_held(letter) for letter in dead.letters] == [True, True, False, True]
    await worker.close()


async def test_a_mail_that_was_set_aside_twice_is_decided_on_once() -> None:
    """Its worker was killed between the letter and the outcome."""
    worker = Worker()
    dead = await held_by(worker, "m1")
    dead.add(*worker.bus.all(DEAD))
    (one,) = dead.held
    dead.add(note(one, "dropped"))
    assert dead.held == []
    dead.add(*worker.bus.all(DEAD))
    assert dead.held == []
    await worker.close()


async def test_a_mail_that_is_released_twice_is_sent_once() -> None:
    """Two operators at the same moment: neither saw the other's note."""
    worker = Worker()
    dead = await held_by(worker, "m1")
    (one,) = dead.held
    record, outcome = release(one, DECISION, RECORDER, worker.partitions)
    again, _ = release(one, DECISION, RECORDER, worker.partitions)
    assert record == again
    assert record.partition == lane_partition(one.mail.envelope.lane, worker.partitions)
    for offset, published in enumerate((record, again), start=10):
        await worker.take(
            Taken(
                published.topic,
                published.partition or 0,
                offset,
                published.key,
                published.value,
                published.headers,
                0.0,
            )
        )
    await worker.clock.advance(0.1)
    assert [taken.transaction.content for taken in worker.mailer.taken] == [one.letter.value]
    assert sorted(worker.done) == [0, 10, 11]
    assert (outcome.event_type, outcome.reason) == ("redriven", f"released by jo@laptop: {DECISION.why}")
    await worker.close()


async def test_a_mail_that_is_held_again_after_its_release_waits_again() -> None:
    worker = Worker()
    dead = await held_by(worker, "m1")
    (one,) = dead.held
    dead.add(note(one, "released"))
    assert dead.held == []
    worker.mailer.answer("m1@site.example", Unknown("disconnected"))
    record, _ = release(one, DECISION, RECORDER, worker.partitions)
    await worker.take(Taken(record.topic, record.partition or 0, 10, record.key, record.value, record.headers, 0.0))
    await worker.clock.advance(0.1)
    dead.add(worker.bus.all(DEAD)[-1])
    assert [again.name for again in dead.held] == ["m1/1"]
    await worker.close()


async def test_a_dropped_mail_ends_and_its_outcome_says_who_and_why() -> None:
    """One more ending: accepted stays what it was, and the mail is counted in one state."""
    worker = Worker()
    dead = await held_by(worker, "m1")
    (one,) = dead.held
    outcome = drop(one, DECISION, RECORDER)
    assert outcome.event_type in FINAL
    assert (outcome.category, outcome.reason) == ("dropped", f"dropped by jo@laptop: {DECISION.why}")
    assert (outcome.message_id, outcome.tenant_id) == ("m1", "acme")
    assert outcome.event_id == drop(one, msgspec.structs.replace(DECISION, at=9e8), RECORDER).event_id
    assert outcome.source is None, "the ledger would take the record for concluded a second time"
    await worker.close()


async def test_a_note_is_no_letter_and_carries_no_mail() -> None:
    worker = Worker()
    dead = await held_by(worker, "m1")
    (one,) = dead.held
    dead.add(note(one, "released"))
    assert is_note(dead.letters[-1])
    assert not is_held(dead.letters[-1])
    assert dead.letters[-1].value is None
    await worker.close()
