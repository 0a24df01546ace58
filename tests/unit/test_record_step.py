"""Recording: what a batch becomes, and that nothing is lost or counted twice while the store or the log are away."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.outcomes import MemoryBatches, MemoryOutcomes
from sluice.domain.outcome import Outcome, SmtpReply, encode_outcome
from sluice.domain.topics import DEAD
from sluice.ports.bus import NotStored
from sluice.record.service import Recorder
from sluice.record.step import record, without_address

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def outcome(number: int, **fields: object) -> Outcome:
    base: dict[str, object] = {
        "event_id": f"e{number}",
        "event_type": "delivered",
        "event_time": AT + timedelta(seconds=number),
        "message_id": f"m{number}",
        "tenant_id": "acme",
    }
    return Outcome(**{**base, **fields})  # type: ignore[arg-type]


def stocked(count: int, rows: int = 10, partitions: int = 2) -> MemoryBatches:
    source = MemoryBatches(rows=rows)
    for number in range(count):
        source.append(number % partitions, encode_outcome(outcome(number)))
    return source


class Bench:
    """A recorder over twins, run until told to stop."""

    def __init__(self, source: MemoryBatches, store: MemoryOutcomes | None = None) -> None:
        self.source = source
        self.store = store or MemoryOutcomes()
        self.bus = MemoryBus({DEAD: 1})
        self.clock = MemoryClock()
        self.recorder = Recorder(source=source, store=self.store, bus=self.bus, clock=self.clock)
        self.stop = asyncio.Event()

    async def until_idle(self) -> None:
        running = asyncio.create_task(self.recorder.run(self.stop))
        for _ in range(200):
            await self.clock.advance(1)
            if self.source.lag() == 0 and self.recorder.progress.waiting_since is None:
                break
        self.stop.set()
        await self.clock.advance(20)
        await asyncio.wait_for(running, 5)

    def recorded(self) -> list[str]:
        return sorted(entry.outcome.event_id for entry in self.store.outcomes)


async def one_batch(*values: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> Bench:
    source = MemoryBatches()
    for value in values:
        source.append(0, value, headers)
    bench = Bench(source)
    batch = await source.take()
    assert batch is not None
    await record(batch, store=bench.store, bus=bench.bus)
    return bench


async def test_the_address_is_kept_apart_from_the_outcome() -> None:
    bench = await one_batch(encode_outcome(outcome(1, recipient="Ann@example.com", recipient_hash="h1")))
    assert bench.store.outcomes[0].outcome.recipient is None
    assert bench.store.addresses["acme", "m1"].recipient == "Ann@example.com"
    assert bench.store.addresses["acme", "m1"].recipient_hash == "h1"


@pytest.mark.parametrize(
    "text",
    [
        "5.1.1 <ann@example.com>: Recipient address rejected",
        "no such user ann@example.com",
        "ann@example.com... User unknown",
        'mailbox "ann@example.com" is full (ann@example.com)',
        "rcpt=ann@example.com;blocked",
        "5.1.1 用户@例子.中国 unknown",
    ],
)
def test_addresses_that_a_reply_quotes_are_replaced(text: str) -> None:
    found = without_address(outcome(1, smtp=SmtpReply(550, "rcpt", text), reason=text))
    assert found.smtp is not None
    assert "@" not in found.smtp.text
    assert found.reason is not None
    assert "@" not in found.reason
    assert "<address>" in found.smtp.text


def test_a_reply_without_address_is_kept_as_it_is() -> None:
    reply = SmtpReply(250, "dot", "2.0.0 Ok: queued as 4F", "2.0.0")
    assert without_address(outcome(1, smtp=reply)).smtp == reply


async def test_checkpoints_of_the_ledger_are_left_out() -> None:
    bench = await one_batch(b"{}", headers=[("ce_type", b"sluice.checkpoint.v1")])
    assert bench.store.outcomes == []
    assert bench.bus.all(DEAD) == []


@pytest.mark.parametrize("value", [b"{", b"\xff", b'{"event_id": 5}', None])
async def test_what_cannot_be_decoded_goes_to_the_dead_letters_and_the_rest_is_recorded(value: bytes | None) -> None:
    bench = await one_batch(encode_outcome(outcome(1)), value, encode_outcome(outcome(2)))
    (dead,) = bench.bus.all(DEAD)
    assert dead.value == value
    assert dict(dead.headers)["sluice-origin"] == b"mail.outcome:0:1"
    assert dict(dead.headers)["sluice-reason"].startswith(b"record: ")
    assert bench.recorded() == ["e1", "e2"]


async def test_a_batch_waits_when_its_dead_letter_is_not_stored() -> None:
    bench = Bench(MemoryBatches())
    bench.source.append(0, b"garbage")
    bench.bus.refusing = NotStored("away")
    running = asyncio.create_task(bench.recorder.run(bench.stop))
    await bench.clock.advance(5)
    assert bench.source.lag() == 1
    bench.bus.refusing = None
    await bench.clock.advance(20)
    assert bench.source.lag() == 0
    assert len(bench.bus.all(DEAD)) == 1
    bench.stop.set()
    await bench.clock.advance(1)
    await running


async def test_everything_is_recorded_once_while_the_store_comes_and_goes() -> None:
    store = MemoryOutcomes()
    store.away = 5
    store.lose_answers = 2
    bench = Bench(stocked(95), store)
    await bench.until_idle()
    assert bench.recorded() == sorted(f"e{number}" for number in range(95))
    assert bench.recorder.progress.waiting_since is None


async def test_the_reader_stays_a_member_while_the_store_is_away() -> None:
    store = MemoryOutcomes()
    store.away = 1_000_000
    bench = Bench(stocked(10), store)
    running = asyncio.create_task(bench.recorder.run(bench.stop))
    await bench.clock.advance(300)
    assert bench.source.kept >= 100
    assert bench.source.lag() == 10
    assert bench.recorder.progress.waiting_since is not None
    bench.stop.set()
    await bench.clock.advance(20)
    await running


async def test_a_batch_whose_partitions_are_lost_is_left_to_their_new_owner() -> None:
    store = MemoryOutcomes()
    store.away = 1_000_000
    bench = Bench(stocked(10, partitions=1), store)
    running = asyncio.create_task(bench.recorder.run(bench.stop))
    await bench.clock.advance(10)
    bench.source.lost.add(0)
    await bench.clock.advance(20)
    assert bench.source.committed == {}
    store.away = 0
    bench.stop.set()
    await bench.clock.advance(20)
    await running
    assert store.outcomes == []


async def test_a_crash_between_insert_and_commit_repeats_the_batch_under_its_token() -> None:
    source = stocked(35)
    store = MemoryOutcomes()
    bus = MemoryBus({DEAD: 1})
    batch = await source.take()
    assert batch is not None
    await record(batch, store=store, bus=bus)

    heir = MemoryBatches(rows=3, log=source.log, committed=source.committed, ranges=source.ranges)
    for number in range(35, 50):
        heir.append(number % 2, encode_outcome(outcome(number)))
    bench = Bench(heir, store)
    await bench.until_idle()
    assert store.tokens[0] == batch.token
    assert bench.recorded() == sorted(f"e{number}" for number in range(50))
