"""Partitions are added while an attempt is in doubt: what its old partition's ledger knows is not forgotten."""

from __future__ import annotations

import asyncio

import msgspec
from tests.support.deliver import PARTITIONS, Worker

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.mailer import MemoryConnection, MemoryMailer
from sluice.domain.conclusion import Recorder
from sluice.domain.conversation import Transcript
from sluice.domain.outcome import Outcome, OutcomeType, Source
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Broken, Replied
from sluice.domain.topics import DEAD, OUTCOME, READY
from sluice.ports.intake import Taken
from sluice.ports.mailer import Hop
from sluice.ports.records import outcome_record

GROWN = PARTITIONS + 2


def moved_lane() -> str:
    """A domain whose lane is at home elsewhere once partitions were added."""
    return next(
        domain
        for domain in (f"site{number}.example" for number in range(1000))
        if lane_partition(f"{domain}#0", PARTITIONS) != lane_partition(f"{domain}#0", GROWN)
    )


class Grown:
    """A worker that finds, after growth, a record in the partition where it was before."""

    def __init__(self, **envelope: str) -> None:
        self.worker = Worker(bus=MemoryBus({**dict.fromkeys((*READY.values(), OUTCOME), GROWN), DEAD: 1}))
        self.record: Taken = self.worker.record(self.worker.envelope("m0", domain=moved_lane(), **envelope))
        self.worker.partitions = GROWN
        self.home = lane_partition(f"{moved_lane()}#0", GROWN)

    async def written(self, event_type: OutcomeType) -> None:
        """What the record's owner before wrote into its partition of the ledger."""
        source = Source(self.record.topic, self.record.partition, self.record.offset)
        envelope = self.worker.envelope("m0", domain=moved_lane())
        made: Outcome = Recorder("before", b"key").of_mail(
            envelope, event_type, self.worker.clock.now(), 1, 0, attempt=1, source=source
        )
        await self.worker.bus.publish(outcome_record(made, self.record.partition))

    def forwarded(self) -> int:
        """Copies of the record at the partition where its lane is at home now."""
        return len(self.worker.bus.stored[self.record.topic, self.home])


async def test_what_was_never_begun_goes_to_its_lane_s_new_home() -> None:
    grown = Grown()
    await grown.worker.take(grown.record)
    assert grown.forwarded() == 1
    assert grown.worker.done == [0]
    assert grown.worker.outcomes() == []


async def test_an_attempt_in_doubt_is_told_before_the_mail_goes_to_its_new_home() -> None:
    grown = Grown()
    await grown.written("attempted")
    await grown.worker.take(grown.record)
    assert [outcome.event_type for outcome in grown.worker.outcomes()] == ["attempted", "in_doubt"]
    assert grown.forwarded() == 1
    assert grown.worker.done == [0]


async def test_a_mail_that_is_to_be_held_in_doubt_is_held_and_not_sent_by_its_new_home() -> None:
    grown = Grown(in_doubt="hold")
    await grown.written("attempted")
    await grown.worker.take(grown.record)
    assert [outcome.event_type for outcome in grown.worker.outcomes()] == ["attempted", "in_doubt", "held"]
    assert grown.forwarded() == 0
    assert len(grown.worker.bus.all(DEAD)) == 1


async def test_what_was_delivered_is_not_sent_by_its_new_home() -> None:
    grown = Grown()
    await grown.written("attempted")
    await grown.written("delivered")
    await grown.worker.take(grown.record)
    assert grown.forwarded() == 0
    assert grown.worker.done == [0]


async def test_what_comes_back_from_a_worker_that_does_not_know_yet_is_sent_on_again() -> None:
    """It is no repeat: dropped here, it would be lost."""
    grown = Grown()
    again = msgspec.structs.replace(grown.record, offset=7)
    await grown.worker.take(grown.record, again)
    assert grown.forwarded() == 2
    assert grown.worker.done == [0, 7]


class SlowToGreet(MemoryMailer):
    """Connections open once the gate does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> MemoryConnection | Replied | Broken:
        await self.gate.wait()
        return await super().connect(hop, talk)


def slow_to_greet(partitions: int) -> tuple[SlowToGreet, MemoryBus, Worker]:
    """A worker that has counted the partitions there were, on a log with room for ``partitions``."""
    mailer = SlowToGreet()
    bus = MemoryBus({**dict.fromkeys((*READY.values(), OUTCOME), partitions), DEAD: 1})
    worker = Worker(bus=bus, mailer=mailer, patience=60.0)
    worker.handler.sweep()
    return mailer, bus, worker


async def test_a_mail_for_which_a_connection_is_just_being_opened_when_growth_is_noticed_stays_in_somebody_s_hand() -> (
    None
):
    """Read at its new home in the second before the worker counts again: the agent that has it in hand is let go."""
    mailer, _, worker = slow_to_greet(GROWN)
    worker.partitions = GROWN
    await worker.take(*(worker.record(worker.envelope(f"m{number}", domain=moved_lane())) for number in range(3)))
    assert worker.senders.dialling > 0
    worker.handler.sweep()
    await worker.settle()
    mailer.gate.set()
    for _ in range(20):
        await worker.clock.advance(1.0)
        await worker.settle()
    assert sorted(worker.done) == [0, 1, 2]
    assert len(mailer.taken) == 3
    await worker.close()


async def test_a_lane_that_a_second_growth_brings_back_to_its_first_partition_brings_its_mails_along() -> None:
    """Read there before, and perhaps attempted: they come back as nobody's repeat."""
    steps = (PARTITIONS, PARTITIONS + 2, PARTITIONS + 4)
    domain, first, second = next(
        (domain, homes[0], homes[1])
        for domain in (f"site{number}.example" for number in range(1000))
        if (homes := [lane_partition(f"{domain}#0", count) for count in steps])[0] == homes[2] != homes[1]
    )
    mailer, bus, worker = slow_to_greet(steps[-1])
    record = worker.record(worker.envelope("m0", domain=domain))

    async def read_in(partition: int, offset: int) -> None:
        (moved,) = bus.stored[record.topic, partition]
        await worker.take(msgspec.structs.replace(record, partition=partition, offset=offset, headers=moved.headers))

    await worker.take(record)
    for count in steps[1:]:
        worker.partitions = count
        worker.handler.sweep()
        await worker.settle()
    await read_in(second, 900)
    await read_in(first, 901)
    mailer.gate.set()
    for _ in range(20):
        await worker.clock.advance(1.0)
        await worker.settle()
    assert sorted(worker.done) == [0, 900, 901]
    assert len(mailer.taken) == 1
    await worker.close()
