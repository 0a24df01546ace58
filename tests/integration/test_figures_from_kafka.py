"""What Kafka's adapters tell of themselves, over a real broker: how much came and went, and how far they are behind."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka import follower as following
from sluice.adapters.kafka import reference as reading
from sluice.adapters.kafka.app import FaustOptions, faust_app
from sluice.adapters.kafka.follower import KafkaFollower
from sluice.adapters.kafka.intake import Bounds, FaustIntake
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.kafka.reference import KafkaReference
from sluice.domain.catalogue import Catalogue
from sluice.domain.spread import Spread
from sluice.domain.topics import TENANTS
from sluice.domain.window import Range
from sluice.ports.bus import Record
from sluice.ports.intake import Done, Taken
from sluice.ports.metrics import Figure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker."""
    with EmbeddedKafka.on_free_ports(Path(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka.bootstrap


def make_topic(bootstrap: str, name: str | None = None, partitions: int = 2) -> str:
    """A new topic."""
    name = name or f"t.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(20)
    return name


def fill(bootstrap: str, topic: str, count: int, partition: int = 0) -> None:
    """Publish records."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", partition=partition)
    assert producer.flush(20) == 0


def told(figures: Iterable[Figure], name: str, *labels: str) -> float | None:
    """One figure's value, a histogram's number; None when it is not told."""
    for figure in figures:
        if figure.metric.name == f"sluice.{name}" and figure.labels == labels:
            return sum(figure.value.counts) if isinstance(figure.value, Spread) else figure.value
    return None


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for real parts to get there."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  real parts have no event to wait for
            await asyncio.sleep(0.05)


class Notes:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[Taken, Done]] = []

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """Nothing to load."""
        return {}

    def take(self, record: Taken, done: Done) -> None:
        """Keep it."""
        self.taken.append((record, done))

    async def revoked(self, partitions: set[int]) -> None:
        """Nothing to finish."""


async def test_an_intake_tells_how_far_it_is_behind_also_of_what_it_has_not_fetched(bootstrap: str) -> None:
    """It may have ten in hand: the others are known from the broker's answers."""
    topic, notes = make_topic(bootstrap), Notes()
    fill(bootstrap, topic, 500)
    options = FaustOptions(f"g-{topic}", bootstrap, "c", session_timeout_s=10.0, rebalance_timeout_s=20.0)
    intake = FaustIntake(faust_app(options), (topic,), notes, Bounds(records=10, commit_s=0.1), drain_s=5.0)
    await intake.start()
    try:
        await until(lambda: len(notes.taken) > 10)
        await until(lambda: (told(intake.figures(), "lag.records", topic) or 0) == 500)
        assert told(intake.figures(), "partitions") == 2
        taken = told(intake.figures(), "records.taken", topic)
        assert taken == told(intake.figures(), "records.unfinished", topic)
        assert (told(intake.figures(), "records.unfinished.size", topic) or 0) > 10 * 500
        assert 0 < (told(intake.figures(), "lag.age", topic) or 0) < 120

        def finish() -> bool:
            for _, done in notes.taken:
                done()
            return told(intake.figures(), "lag.records", topic) == 0 and len(notes.taken) == 500

        await until(finish)
        assert told(intake.figures(), "records.taken", topic) == 500
        assert told(intake.figures(), "lag.age", topic) == pytest.approx(0, abs=0.1)
    finally:
        await intake.stop()


async def test_a_producer_tells_what_was_acknowledged_and_how_fast(bootstrap: str) -> None:
    topic = make_topic(bootstrap)
    bus = KafkaBus({"bootstrap.servers": bootstrap})
    waiting = [bus.publish(Record(topic, b"x", b"k")) for _ in range(20)]
    assert (told(bus.figures(), "publish.queue") or 0) > 0
    await asyncio.gather(*waiting)
    assert told(bus.figures(), "records.published", topic) == 20
    assert 1 <= (told(bus.figures(), "publish.ack") or 0) <= 20
    assert told(bus.figures(), "publish.failures", topic) is None
    await bus.close()
    assert told(bus.figures(), "publish.queue") == 0


async def test_how_long_kafka_takes_is_told_without_what_waited_for_company(bootstrap: str) -> None:
    """Else a backlog, behind which records are gathered for longer, would look like a slow broker."""
    topic = make_topic(bootstrap)
    bus = KafkaBus({"bootstrap.servers": bootstrap}, patience_ms=2_000)
    await bus.publish(Record(topic, b"x", b"k"))
    began, before = time.monotonic(), bus._acks.total
    await bus.publish(Record(topic, b"x", b"k", patient=True))
    assert time.monotonic() - began > 1.0, "it did not wait for company: nothing is shown"
    assert 0 < bus._acks.total - before < 0.5
    assert await bus.close() == 0


async def test_the_wheel_s_follower_tells_what_rests_beyond_the_commit(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was fetched or not, and from before it started."""
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.2)
    topic = make_topic(bootstrap)
    fill(bootstrap, topic, 30)
    follower = KafkaFollower({"bootstrap.servers": bootstrap}, f"g-{topic}", (topic,))
    try:
        got = 0
        deadline = time.monotonic() + 60
        while (got < 30 or told(follower.figures(), "lag.records", topic) != 30) and time.monotonic() < deadline:
            got += len((await follower.poll(0.2)).records)
        assert told(follower.figures(), "lag.records", topic) == 30
        assert told(follower.figures(), "records.taken", topic) == got == 30
        assert told(follower.figures(), "partitions") == 2
        await follower.commit({(topic, 0): 25})
        while told(follower.figures(), "lag.records", topic) != 5 and time.monotonic() < deadline:
            await follower.poll(0.2)
        assert told(follower.figures(), "lag.records", topic) == 5
    finally:
        await follower.close()


async def test_reference_data_tell_how_old_they_are(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOK_EVERY_S", 0.1)
    make_topic(bootstrap, TENANTS, 1)
    fill(bootstrap, TENANTS, 3)
    reference = KafkaReference({"bootstrap.servers": bootstrap}, Catalogue(), (TENANTS,))
    reference._complete_at = time.monotonic() - 1000
    reference.start()
    try:
        await until(lambda: reference.loaded and (told(reference.figures(), "reference.age") or 999) < 30)
        assert told(reference.figures(), "reference.lag") == 0
    finally:
        reference.stop()


async def test_members_have_the_same_numbers_of_all_topics_and_take_what_is_added(bootstrap: str) -> None:
    """So of two partitions a third member has none, however many topics there are: the wheel scales by one tier's.

    Nobody is restarted when there are more.
    """
    topics = tuple(make_topic(bootstrap) for _ in range(3))
    options = {"bootstrap.servers": bootstrap, "topic.metadata.refresh.interval.ms": 1000}
    group = f"g.{uuid.uuid4().hex[:8]}"
    members = [KafkaFollower(options, group, topics) for _ in range(3)]
    polling = [asyncio.create_task(_poll_on(member)) for member in members]

    def counts() -> list[float]:
        return sorted(told(member.figures(), "partitions") or 0 for member in members)

    try:
        await until(lambda: counts() == [0, 3, 3])
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_partitions([NewPartitions(topic, 3) for topic in topics]).values():
            future.result(20)
        await until(lambda: counts() == [3, 3, 3])
    finally:
        for task in polling:
            task.cancel()
        await asyncio.gather(*polling, return_exceptions=True)
        for member in members:
            await member.close()


async def _poll_on(member: KafkaFollower) -> None:
    while True:
        await member.poll(0.1)
