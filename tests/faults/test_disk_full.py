"""Services beside a disk that is full, or slow: they wait or say so, lose nothing, and go on when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.small_disk import make_room, small_disk

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.app import FaustOptions, faust_app
from sluice.adapters.kafka.batches import KafkaBatches
from sluice.adapters.kafka.intake import Bounds, FaustIntake
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.system.clock import SystemClock
from sluice.domain.outcome import Outcome, encode_outcome
from sluice.domain.topics import DEAD
from sluice.domain.window import Range
from sluice.ports.bus import NotStored, Record
from sluice.ports.intake import Done, Taken
from sluice.record.service import Recorder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TOPIC = "mail.ready.normal"
OUTCOMES = 600


async def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Other processes bring it about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def create(kafka: EmbeddedKafka, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")
    return ballast


def produce_outcomes(kafka: EmbeddedKafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(OUTCOMES):
        outcome = Outcome(
            event_id=f"e{number}",
            event_type="delivered",
            event_time=datetime(2026, 11, 23, 4, 0, tzinfo=UTC),
            message_id=f"m{number}",
            tenant_id="acme",
            reason=os.urandom(100).hex(),
        )
        producer.produce(topic, encode_outcome(outcome), headers=[("ce_type", b"sluice.outcome.v1")])
    assert producer.flush(30) == 0


async def test_record_waits_while_clickhouse_has_no_room_and_then_stores_every_outcome_once(tmp_path: Path) -> None:
    """It stays a member and alive meanwhile: starting it again would make no room."""
    disk, topic = tmp_path / "disk", f"t{uuid.uuid4().hex[:8]}"
    with (
        small_disk(disk, "48m"),
        EmbeddedKafka.on_free_ports(tmp_path / "kafka") as kafka,
        EmbeddedClickHouse.on_free_port(disk / "clickhouse") as server,
    ):
        create(kafka, topic)
        clickhouse = ClickHouse(Target(server.url, database="full"))
        migrations.apply(clickhouse)
        ballast = fill(disk)
        produce_outcomes(kafka, topic)
        source = KafkaBatches(kafka.bootstrap, topic, "record", max_rows=200, max_age=0.1)
        recorder = Recorder(
            source=source, store=ClickHouseOutcomes(clickhouse), bus=MemoryBus({DEAD: 1}), clock=SystemClock()
        )
        stop = asyncio.Event()
        running = asyncio.create_task(recorder.run(stop))
        await until(lambda: recorder.progress.waiting_since is not None)
        await asyncio.sleep(3)
        assert not running.done()
        assert recorder.lag() > 0
        ballast.unlink()
        await until(lambda: recorder.progress.waiting_since is None and recorder.lag() == 0)
        stop.set()
        await running
        await source.close()
        (found,) = clickhouse.rows(
            "SELECT (SELECT count() FROM full.outcomes) AS rows, "
            "(SELECT uniqExact(event_id) FROM full.outcomes) AS events"
        )
        clickhouse.close()
    assert (found["rows"], found["events"]) == (OUTCOMES, OUTCOMES)


class Finisher:
    """Finishes what it is given."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        return {}

    def take(self, record: Taken, done: Done) -> None:
        self.taken.append(record.offset)
        done()

    async def revoked(self, partitions: set[int]) -> None: ...


async def publish_until_refused(bus: KafkaBus, stored: list[int]) -> None:
    for _ in range(600):
        position = await bus.publish(Record(TOPIC, os.urandom(100_000), partition=0))
        stored.append(position.offset)


@asynccontextmanager
async def member(kafka: EmbeddedKafka, handler: Finisher) -> AsyncIterator[FaustIntake]:
    options = FaustOptions("g", kafka.bootstrap, "c", session_timeout_s=10.0, rebalance_timeout_s=20.0)
    intake = FaustIntake(faust_app(options), (TOPIC,), handler, Bounds(commit_s=0.1), drain_s=5.0)
    await intake.start()
    try:
        yield intake
    finally:
        await intake.stop()


def committed(kafka: EmbeddedKafka) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "g"})
    try:
        return int(consumer.committed([TopicPartition(TOPIC, 0)], timeout=20)[0].offset)
    finally:
        consumer.close()


async def test_a_worker_outlives_a_broker_whose_disk_was_full_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publications fail, which it is told; what was acknowledged comes to the same member afterwards."""
    # A Java that dies of a full disk leaves a report where it was started.
    monkeypatch.chdir(tmp_path)
    disk, handler = tmp_path / "disk", Finisher()
    with small_disk(disk, "24m"):
        kafka = EmbeddedKafka.on_free_ports(disk / "kafka")
        kafka.start()
        try:
            create(kafka, TOPIC)
            bus = KafkaBus({"bootstrap.servers": kafka.bootstrap, "log_level": 0}, timeout_s=6.0)
            async with member(kafka, handler):
                stored: list[int] = []
                with pytest.raises(NotStored):
                    await publish_until_refused(bus, stored)
                assert len(stored) > 20
                make_room(disk, "200m")
                kafka.stop()
                kafka.start()
                async with asyncio.timeout(90):
                    last = None
                    while last is None:
                        with contextlib.suppress(NotStored):
                            last = (await bus.publish(Record(TOPIC, b"after", partition=0))).offset
                await until(lambda: last in handler.taken)
                assert set(stored) <= set(handler.taken)
                assert handler.taken == sorted(set(handler.taken)), "taken twice by one member"
                await until(lambda: committed(kafka) > last)
            await bus.close()
        finally:
            kafka.stop()


async def test_on_a_slow_disk_everything_is_stored_once_and_in_order(tmp_path: Path) -> None:
    """Slow by halves: the broker stands still for most of every second, as when each write takes as long."""
    with EmbeddedKafka.on_free_ports(tmp_path / "kafka") as kafka:
        create(kafka, TOPIC)
        handler = Finisher()
        bus = KafkaBus({"bootstrap.servers": kafka.bootstrap, "log_level": 0}, timeout_s=60.0)
        process = kafka._process
        assert process is not None
        async with member(kafka, handler):
            publishing = asyncio.gather(
                *(bus.publish(Record(TOPIC, str(number).encode(), partition=0)) for number in range(400))
            )
            for _ in range(8):
                os.kill(process.pid, signal.SIGSTOP)
                await asyncio.sleep(0.7)
                os.kill(process.pid, signal.SIGCONT)
                await asyncio.sleep(0.3)
                more = bus.publish(Record(TOPIC, b"more", partition=0))
            offsets = [position.offset for position in await publishing]
            last = (await more).offset
            assert offsets == sorted(set(offsets))
            await until(lambda: last in handler.taken)
            assert handler.taken == list(range(last + 1))
        await bus.close()
