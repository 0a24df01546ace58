"""A consumer that stands still beside a real broker, as was seen in Faust: noticed, told, not seen where it is not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.app import FaustOptions, faust_app
from sluice.adapters.kafka.backlog import KafkaBacklog
from sluice.adapters.kafka.intake import Bounds, FaustIntake
from sluice.adapters.kafka.survey import KafkaAway
from sluice.adapters.telemetry.health import HealthServer
from sluice.domain.window import Range
from sluice.ports.health import Health
from sluice.ports.intake import Done, Taken
from sluice.runtime.stall import ReadingWatch, uncommitted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
LIMIT = 4.0


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker."""
    with EmbeddedKafka.on_free_ports(Path(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka.bootstrap


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


def make_topic(bootstrap: str) -> str:
    name = f"t.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.create_topics([NewTopic(name, 1, 1)]).values()
    future.result(20)
    return name


def publish(bootstrap: str, topic: str, count: int, *, in_transaction: bool = False) -> None:
    options = {"bootstrap.servers": bootstrap} | ({"transactional.id": uuid.uuid4().hex} if in_transaction else {})
    producer = Producer(options)
    if in_transaction:
        producer.init_transactions(30)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, str(number).encode())
    if in_transaction:
        producer.commit_transaction(30)
    assert producer.flush(20) == 0


async def until(condition: object, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  real parts have no event to wait for
            await asyncio.sleep(0.05)


@asynccontextmanager
async def member(bootstrap: str, topic: str, handler: Finisher) -> AsyncIterator[tuple[FaustIntake, ReadingWatch]]:
    group = f"g-{uuid.uuid4().hex[:8]}"
    options = FaustOptions(group, bootstrap, "c", session_timeout_s=10.0, rebalance_timeout_s=20.0)
    intake = FaustIntake(faust_app(options), (topic,), handler, Bounds(commit_s=0.1), drain_s=5.0)
    backlog = KafkaBacklog({"bootstrap.servers": bootstrap}, group)
    watch = ReadingWatch(lambda: intake.reading, backlog.waiting, LIMIT)
    await intake.start()
    watching = asyncio.create_task(watch.run())
    try:
        yield intake, watch
    finally:
        watching.cancel()
        await intake.stop()


async def test_a_consumer_that_stands_fails_its_health_check_and_says_what_waits(bootstrap: str) -> None:
    topic, handler = make_topic(bootstrap), Finisher()
    publish(bootstrap, topic, 5)
    async with member(bootstrap, topic, handler) as (intake, watch):
        await until(lambda: handler.taken == [0, 1, 2, 3, 4])
        server = HealthServer(lambda: Health(not watch.reason, True, watch.reason), "127.0.0.1", 0)
        await server.start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            await asyncio.sleep(2 * LIMIT)
            async with session.get("/healthz") as answer:
                assert answer.status == 200, "idle is not stalled"
            intake._app.flow_control.suspend()
            intake._consumer.suspend_flow.set()
            intake._consumer.flow_active = False
            publish(bootstrap, topic, 5)
            await until(lambda: watch.reason)
            async with session.get("/healthz") as answer:
                assert answer.status == 503
                assert f"{topic}:0" in (await answer.json())["reason"]
        await server.stop()
        assert handler.taken == [0, 1, 2, 3, 4]


async def test_commits_that_are_not_stored_while_records_finish_are_a_stall(bootstrap: str) -> None:
    """As when the task that commits has died: everything goes on, and a restart would repeat all of it."""
    topic, handler = make_topic(bootstrap), Finisher()
    publish(bootstrap, topic, 5)
    async with member(bootstrap, topic, handler) as (intake, _):
        await until(lambda: len(handler.taken) == 5)
        await until(lambda: intake.owed_at is None)

        async def refused(_: object) -> bool:
            return False

        stored = intake._consumer._commit
        intake._consumer._commit = refused
        for _ in range(6):
            publish(bootstrap, topic, 1)
            await asyncio.sleep(LIMIT / 4)
            if uncommitted(intake.owed_at, intake.moved_at, LIMIT):
                break
        else:
            raise AssertionError("it was not noticed")
        intake._consumer._commit = stored
        await until(lambda: intake.owed_at is None)


async def test_commits_that_end_end_the_service(bootstrap: str) -> None:
    topic, handler = make_topic(bootstrap), Finisher()
    publish(bootstrap, topic, 1)
    async with member(bootstrap, topic, handler) as (intake, _):
        await until(lambda: handler.taken == [0])

        async def broken(_: object) -> bool:
            raise KeyError("a defect")

        stored = intake._consumer._commit
        intake._consumer._commit = broken
        publish(bootstrap, topic, 1)
        await until(lambda: isinstance(intake.crashed, KeyError))
        intake._consumer._commit = stored


async def test_a_partition_without_a_position_ends_nothing(bootstrap: str) -> None:
    """As while it is sought after a rebalance: Faust's own watch then failed, and the worker with it."""
    topic, handler = make_topic(bootstrap), Finisher()
    publish(bootstrap, topic, 5)
    async with member(bootstrap, topic, handler) as (intake, _):
        await until(lambda: len(handler.taken) == 5)
        assignment = intake._consumer._thread._consumer._subscription.subscription.assignment
        (state,) = (assignment.state_value(tp) for tp in assignment.tps)
        position, state._position = state._position, None
        try:
            await intake._consumer.verify_all_partitions_active()
        finally:
            state._position = position
        publish(bootstrap, topic, 1)
        await until(lambda: len(handler.taken) == 6)


async def test_the_end_of_a_transaction_is_no_record_that_waits(bootstrap: str) -> None:
    """Its marker takes an offset that no consumer ever sees."""
    topic, handler = make_topic(bootstrap), Finisher()
    publish(bootstrap, topic, 3, in_transaction=True)
    async with member(bootstrap, topic, handler) as (intake, _):
        await until(lambda: len(handler.taken) == 3)
        backlog = KafkaBacklog({"bootstrap.servers": bootstrap}, "anybody")
        assert intake.reading == {(topic, 0): 3}
        assert backlog.waiting({(topic, 0): 3}) == set()
        assert backlog.waiting({(topic, 0): 2}) == {(topic, 0)}
        assert backlog.waiting({(topic, 0): -1}) == {(topic, 0)}


def test_a_log_that_does_not_answer_is_said_to_be_away() -> None:
    with pytest.raises(KafkaAway):
        KafkaBacklog({"bootstrap.servers": "127.0.0.1:1"}, "g").waiting({("t", 0): 0})
