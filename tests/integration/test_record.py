"""Recording from a real Kafka into a real ClickHouse: crashes, rebalances and absences leave every row exactly once."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.batches import KafkaBatches
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.system.clock import SystemClock
from sluice.domain.outcome import Outcome, encode_outcome
from sluice.domain.topics import DEAD
from sluice.ports.outcomes import Batch
from sluice.record.service import Recorder
from sluice.record.step import record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PARTITIONS = 4
AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka")) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic(DEAD, 1, 1)])[DEAD].result(20)
        yield broker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
async def place(
    kafka: EmbeddedKafka, server: EmbeddedClickHouse, request: pytest.FixtureRequest
) -> AsyncIterator["Place"]:
    """A topic and a database of its own for each test."""
    where = Place(kafka, server, f"t{abs(hash(request.node.name)) % 10**8}")
    yield where
    for reader in where.readers:
        await reader.close()
    where.clickhouse.close()


class Place:
    def __init__(self, kafka: EmbeddedKafka, server: EmbeddedClickHouse, name: str) -> None:
        self.kafka = kafka
        self.name = name
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)
        self.clickhouse = ClickHouse(Target(server.url, database=name))
        migrations.apply(self.clickhouse)
        self.store = ClickHouseOutcomes(self.clickhouse)
        self.bus = MemoryBus({DEAD: 1})
        self.readers: list[KafkaBatches] = []

    def reader(self, rows: int = 200, age: float = 0.1) -> KafkaBatches:
        made = KafkaBatches(
            self.kafka.bootstrap,
            self.name,
            "record",
            max_rows=rows,
            max_age=age,
            settings={"session.timeout.ms": 6000, "heartbeat.interval.ms": 500},
        )
        self.readers.append(made)
        return made

    async def leave(self, reader: KafkaBatches) -> None:
        """As a crash does, for all that is stored: nothing more is committed."""
        self.readers.remove(reader)
        await reader.close()

    def produce(self, first: int, count: int, *, extra: bool = False) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        for number in range(first, first + count):
            value = encode_outcome(
                Outcome(
                    event_id=f"e{number}",
                    event_type="delivered" if number % 2 else "composed",
                    event_time=AT + timedelta(milliseconds=number),
                    message_id=f"m{number // 2}",
                    tenant_id="acme",
                    site=f"site{number % 7}",
                    queued_at=AT,
                    recipient=f"u{number // 2}@example.com" if number % 2 else None,
                )
            )
            producer.produce(
                self.name, value, partition=number % PARTITIONS, headers=[("ce_type", b"sluice.outcome.v1")]
            )
            if extra and number % 50 == 0:
                producer.produce(self.name, b"{}", partition=0, headers=[("ce_type", b"sluice.checkpoint.v1")])
            if extra and number % 100 == 0:
                producer.produce(self.name, b"not an outcome", partition=1)
        assert producer.flush(30) == 0

    def held(self) -> tuple[int, int, int, int]:
        """Rows, different events, what the rollup counts, rows of recipients before any merge could hide repeats."""
        database = self.name
        (found,) = self.clickhouse.rows(
            f"SELECT (SELECT count() FROM {database}.outcomes) AS n, "
            f"(SELECT uniqExact(event_id) FROM {database}.outcomes) AS events, "
            f"(SELECT sum(outcomes) FROM {database}.outcomes_per_minute) AS counted, "
            f"(SELECT count() FROM {database}.recipients) AS people"
        )
        return found["n"], found["events"], found["counted"], found["people"]


async def next_batch(reader: KafkaBatches, seconds: float = 30) -> Batch:
    async with asyncio.timeout(seconds):
        while (batch := await reader.take()) is None:
            pass
        return batch


async def drain(place: Place, reader: KafkaBatches, until: int) -> None:
    """Record until ``until`` events are in ClickHouse and nothing is left in the log."""
    async with asyncio.timeout(60):
        while place.held()[1] < until or reader.lag() > 0:
            if (batch := await reader.take()) is not None:
                await record(batch, store=place.store, bus=place.bus)
                await reader.finish(batch)


async def until(condition: Callable[[], bool]) -> None:
    """Other processes bring it about, so there is nothing to wait on but to look again."""
    while not condition():  # noqa: ASYNC110 (nothing in this process can be waited on)
        await asyncio.sleep(0.02)


async def test_every_outcome_is_recorded_once_and_the_rest_is_set_aside(place: Place) -> None:
    place.produce(0, 1000, extra=True)
    await drain(place, place.reader(), 1000)
    assert place.held() == (1000, 1000, 1000, 500)
    assert len(place.bus.all(DEAD)) == 10


async def test_crashes_at_every_point_of_a_batch_leave_every_row_once(place: Place) -> None:
    place.produce(0, 4000)
    chance = random.Random(20261123)
    crashes = 0
    recorded = 0
    reader = place.reader(rows=150, age=0.02)
    async with asyncio.timeout(100):
        while recorded < 25 or crashes < 5:
            batch = await reader.take()
            if batch is None:
                place.produce(4000 + recorded * 10, 10)
                recorded += 1
                continue
            point = chance.choice(["none"] * 6 + ["before the insert", "after the insert"])
            if point != "before the insert":
                await record(batch, store=place.store, bus=place.bus)
                recorded += 1
            if point == "none":
                await reader.finish(batch)
                continue
            crashes += 1
            await place.leave(reader)
            place.produce(100_000 + crashes * 100, 100)
            reader = place.reader(rows=chance.choice([50, 150, 1000]), age=0.02)
    (low,) = place.clickhouse.rows(f"SELECT uniqExact(event_id) AS n FROM {place.name}.outcomes")
    await drain(place, reader, low["n"])
    rows, events, counted, _ = place.held()
    assert rows == events == counted
    assert reader.lag() == 0
    assert crashes >= 5
    spread = place.clickhouse.rows(
        "SELECT log_partition, count() AS n, max(log_offset) + 1 AS past "
        f"FROM {place.name}.outcomes GROUP BY log_partition"
    )
    assert len(spread) == PARTITIONS
    assert all(row["n"] == row["past"] for row in spread), "an offset is missing"


async def test_a_batch_is_read_again_as_it_was(place: Place) -> None:
    place.produce(0, 300)
    first = place.reader(rows=300, age=0.5)
    batch = await next_batch(first)
    assert len(batch.slices) == PARTITIONS
    await place.leave(first)
    place.produce(300, 300)
    again = await next_batch(place.reader(rows=10))
    assert again.token == batch.token
    assert again == batch


async def test_when_partitions_move_both_owners_store_the_batch_and_it_counts_once(place: Place) -> None:
    place.produce(0, 400)
    old = place.reader(rows=400, age=0.5)
    batch = await next_batch(old)
    new = place.reader(rows=1000)
    taken = asyncio.create_task(next_batch(new))
    async with asyncio.timeout(30):
        while not taken.done():
            await old.keep()
            await asyncio.sleep(0.05)
    again = taken.result()
    assert again.token == batch.token
    assert old.holds(batch)
    assert new.holds(again)
    for reader, each in ((new, again), (old, batch)):
        await record(each, store=place.store, bus=place.bus)
        await reader.finish(each)
    place.produce(400, 200)
    async with asyncio.timeout(30):
        while place.held()[1] < 600:
            for reader in (old, new):
                if (more := await reader.take()) is not None:
                    await record(more, store=place.store, bus=place.bus)
                    await reader.finish(more)
    assert place.held() == (600, 600, 600, 300)


async def test_clickhouse_away_is_waited_for_and_nothing_is_lost_or_counted_twice(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    server = EmbeddedClickHouse.on_free_port(tmp_path)
    server.start()
    place = Place(kafka, server, "away")
    bus = KafkaBus({"bootstrap.servers": kafka.bootstrap})
    reader = place.reader()
    recorder = Recorder(source=reader, store=place.store, bus=bus, clock=SystemClock())
    stop = asyncio.Event()
    running = asyncio.create_task(recorder.run(stop))
    try:
        for round_ in range(3):
            place.produce(round_ * 300, 300, extra=True)
            async with asyncio.timeout(60):
                await until(lambda more=round_ * 300 + 50: recorder.progress.outcomes >= more)
                await asyncio.to_thread(server.kill if round_ == 1 else server.stop)
                place.produce(10_000 + round_ * 50, 50)
                await until(lambda: recorder.progress.waiting_since is not None)
                await asyncio.to_thread(server.start)
                await until(lambda: reader.lag() == 0 and recorder.progress.waiting_since is None)
        assert place.held()[:3] == (1050, 1050, 1050)
        assert recorder.progress.dead == 9
    finally:
        stop.set()
        await running
        await reader.close()
        await bus.close()
        server.stop()
    dead = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "dead", "auto.offset.reset": "earliest"})
    dead.subscribe([DEAD])
    messages = dead.consume(100, timeout=10)
    dead.close()
    assert {message.value() for message in messages} == {b"not an outcome"}
