"""Faust agents over real Kafka: ordered commits, hand-over, back-pressure, co-partitioned assignment."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.app import FaustOptions, faust_app
from sluice.adapters.kafka.fetching import FETCH_BYTES
from sluice.adapters.kafka.intake import Bounds, FaustIntake
from sluice.adapters.kafka.membership import InstanceTaken
from sluice.domain.window import Range
from sluice.ports.intake import Done, Taken

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker."""
    with EmbeddedKafka.on_free_ports(Path(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka.bootstrap


class Notes:
    """A handler that keeps what it is given and finishes what it is told to."""

    def __init__(self, finished: dict[str, list[Range]] | None = None) -> None:
        self.finished = finished or {}
        self.taken: list[tuple[Taken, Done]] = []
        self.revocations: list[set[int]] = []

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """Nothing to load."""
        return self.finished

    def take(self, record: Taken, done: Done) -> None:
        """Keep it."""
        self.taken.append((record, done))

    async def revoked(self, partitions: set[int]) -> None:
        """Note it."""
        self.revocations.append(partitions)

    def offsets(self, topic: str) -> list[int]:
        """Offsets taken of a topic, in order."""
        return [record.offset for record, _ in self.taken if record.topic == topic]

    def finish(self, wanted: Callable[[Taken], bool]) -> None:
        """Call done for some."""
        for record, done in self.taken:
            if wanted(record):
                done()


def make_topics(bootstrap: str, partitions: int = 1, count: int = 1) -> tuple[str, ...]:
    """New topics with one name's stem."""
    stem = uuid.uuid4().hex[:8]
    names = tuple(f"t.{stem}.{number}" for number in range(count))
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        future.result(20)
    return names


def fill(bootstrap: str, topic: str, count: int, partition: int = 0, padding: int = 0) -> None:
    """Publish numbered records, with spaces behind the numbers."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        value = str(number).encode() + b" " * padding
        producer.produce(topic, value, partition=partition, headers=[("n", str(number).encode())])
    assert producer.flush(20) == 0


def committed(bootstrap: str, group: str, topic: str, partition: int = 0) -> int:
    """The group's committed offset; negative when there is none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        return int(consumer.committed([TopicPartition(topic, partition)], timeout=20)[0].offset)
    finally:
        consumer.close()


async def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for real parts to get there."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  real parts have no event to wait for
            await asyncio.sleep(0.05)


class Group:
    """Members of one group, stopped at the end."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.name = f"g-{uuid.uuid4().hex[:8]}"
        self.members: list[FaustIntake] = []

    async def join(
        self, topics: tuple[str, ...], handler: Notes, bounds: Bounds | None = None, instance_id: str | None = None
    ) -> FaustIntake:
        """Add a member."""
        options = FaustOptions(
            self.name,
            self.bootstrap,
            f"c{len(self.members)}",
            instance_id,
            session_timeout_s=10.0,
            rebalance_timeout_s=20.0,
        )
        member = FaustIntake(faust_app(options), topics, handler, bounds or Bounds(commit_s=0.1), drain_s=5.0)
        self.members.append(member)
        await member.start()
        return member

    async def leave(self, member: FaustIntake) -> None:
        """Stop a member."""
        self.members.remove(member)
        await member.stop()


@pytest.fixture
async def group(bootstrap: str) -> AsyncIterator[Group]:
    """A group of its own for each test."""
    made = Group(bootstrap)
    yield made
    for member in list(made.members):
        await made.leave(member)


async def test_only_the_finished_prefix_is_committed_and_the_straggler_comes_again(group: Group) -> None:
    """Row 5: a slow mail at the head, 100 later ones done. Fails with Faust's own acknowledgement."""
    (topic,) = make_topics(group.bootstrap)
    fill(group.bootstrap, topic, 101)
    first = Notes()
    member = await group.join((topic,), first)
    await until(lambda: len(first.taken) == 101)
    first.finish(lambda record: record.offset != 3)
    await until(lambda: committed(group.bootstrap, group.name, topic) == 3)
    await until(lambda: member.finished_beyond(0) == {topic: [(4, 100)]})
    await group.leave(member)
    assert committed(group.bootstrap, group.name, topic) == 3
    second = Notes({topic: [(4, 100)]})
    await group.join((topic,), second)
    await until(lambda: len(second.taken) == 1)
    await asyncio.sleep(1.0)
    assert second.offsets(topic) == [3]
    second.finish(lambda _: True)
    await until(lambda: committed(group.bootstrap, group.name, topic) == 101)


async def test_a_clean_stop_commits_what_was_just_finished(group: Group) -> None:
    """Nothing finished is repeated after a clean hand-over, although Faust drops acks at a rebalance."""
    (topic,) = make_topics(group.bootstrap)
    fill(group.bootstrap, topic, 50)
    notes = Notes()
    member = await group.join((topic,), notes, Bounds(commit_s=3600.0))
    await until(lambda: len(notes.taken) == 50)
    notes.finish(lambda _: True)
    assert committed(group.bootstrap, group.name, topic) < 0
    await group.leave(member)
    assert notes.revocations
    assert committed(group.bootstrap, group.name, topic) == 50


async def test_a_full_partition_pauses_alone_and_goes_on_when_there_is_room(group: Group) -> None:
    """Bulk that nobody finishes does not stop what is urgent."""
    bulk, high = make_topics(group.bootstrap, count=2)
    fill(group.bootstrap, bulk, 8000)
    notes = Notes()
    await group.join((bulk, high), notes, Bounds(records=100, commit_s=0.1))
    await until(lambda: len(notes.offsets(bulk)) > 100)
    await asyncio.sleep(2.0)
    held = len(notes.offsets(bulk))
    assert held < 4000
    fill(group.bootstrap, high, 10)
    await until(lambda: len(notes.offsets(high)) == 10, 15)
    assert len(notes.offsets(bulk)) == held

    def everything() -> bool:
        notes.finish(lambda _: True)
        return len(notes.offsets(bulk)) == 8000

    await until(everything, 60)
    assert notes.offsets(bulk) == list(range(8000))
    await until(lambda: committed(group.bootstrap, group.name, bulk) == 8000)


async def test_of_two_processes_with_one_instance_id_the_first_ends_and_never_may_both_send(
    group: Group, bootstrap: str
) -> None:
    """Kafka gives the second one the partitions at once."""
    (topic,) = make_topics(bootstrap)
    first = await group.join((topic,), Notes(), instance_id="pod-1")
    await until(lambda: first.certain)
    assert first.crashed is None
    second = await group.join((topic,), Notes(), instance_id="pod-1")
    both = 0

    def told() -> bool:
        nonlocal both
        both += first.certain and second.certain
        return second.certain and first.crashed is not None

    await until(told)
    assert both == 0
    assert isinstance(first.crashed, InstanceTaken)
    await asyncio.sleep(4.0)
    assert second.crashed is None, "the first one took its place back"
    assert second.certain


async def test_topics_with_equal_partition_counts_are_assigned_together(group: Group) -> None:
    """Lane ownership rests on it: a lane's three priorities are in one worker's hands."""
    topics = make_topics(group.bootstrap, partitions=5, count=3)
    handlers = [Notes(), Notes()]
    for handler in handlers:
        await group.join(topics, handler)
    for _ in range(40):
        for topic in topics:
            for partition in range(5):
                fill(group.bootstrap, topic, 1, partition)
        for handler in handlers:
            handler.finish(lambda _: True)
        seen = [{(record.topic, record.partition) for record, _ in handler.taken[-15:]} for handler in handlers]
        if len(seen[0]) + len(seen[1]) == 15 and all(seen):
            break
        await asyncio.sleep(0.5)
    owned = [member.partitions for member in group.members]
    assert owned[0].isdisjoint(owned[1])
    assert owned[0] | owned[1] == set(range(5))
    for handler, numbers in zip(handlers, owned, strict=True):
        assert {(record.topic, record.partition) for record, _ in handler.taken[-3 * len(numbers) :]} == {
            (topic, number) for topic in topics for number in numbers
        }


async def test_records_that_arrive_with_a_rebalance_are_not_lost(group: Group) -> None:
    """A fetch from before the rebalance may still be waiting for them, and nobody for the fetch."""
    (topic,) = make_topics(group.bootstrap, partitions=2)
    steady, count = Notes(), 0
    member = await group.join((topic,), steady)
    for _ in range(4):
        coming = Notes()
        other = await group.join((topic,), coming)
        for member_now in (member, other):
            await until(lambda each=member_now: len(each.partitions) == 1)
        for _ in range(5):
            for partition in range(2):
                fill(group.bootstrap, topic, 1, partition)
            await asyncio.sleep(0.1)
        count += 10
        await until(lambda notes=coming, wanted=count: len(steady.taken) + len(notes.taken) >= wanted, 15)
        await group.leave(other)
        await until(lambda: member.partitions == {0, 1})
        for partition in range(2):
            fill(group.bootstrap, topic, 1, partition)
        count += 2
        await until(lambda wanted=count: len(set(steady.offsets(topic))) == wanted // 2, 15)
        steady.taken.clear()


async def test_what_its_producer_took_back_is_not_taken(group: Group) -> None:
    """An upstream service may publish in transactions."""
    (topic,) = make_topics(group.bootstrap)
    producer = Producer({"bootstrap.servers": group.bootstrap, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(20)
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(topic, end.__name__.encode())
        producer.flush(20)
        end(20)
    notes = Notes()
    await group.join((topic,), notes)
    await until(lambda: len(notes.taken) >= 3)
    assert [record.value for record, _ in notes.taken] == [b"commit_transaction"] * 3
    notes.finish(lambda _: True)
    await until(lambda: committed(group.bootstrap, group.name, topic) > 6)


async def test_headers_and_time_of_a_record_arrive(group: Group) -> None:
    """The envelope is in them."""
    (topic,) = make_topics(group.bootstrap)
    fill(group.bootstrap, topic, 1)
    notes = Notes()
    await group.join((topic,), notes)
    await until(lambda: len(notes.taken) == 1)
    record, done = notes.taken[0]
    assert record.headers == [("n", b"0")]
    assert record.value == b"0"
    assert record.stored_at > 1.7e9
    done()
    done()


class Busy(Notes):
    """Finishes all records, and works half a millisecond for each."""

    def take(self, record: Taken, done: Done) -> None:
        """Work, note, finish."""
        time.sleep(0.0005)
        super().take(record, done)
        done()


async def test_urgent_records_pass_a_backlog_of_bulk(group: Group) -> None:
    """What was fetched of a backlog, and the fetch that is under way, are not waited for.

    Counted in bulk records that were taken since the urgent one was stored, so that a slow machine makes no difference.
    """
    high, bulk = make_topics(group.bootstrap, partitions=2, count=2)
    for partition in (0, 1):
        fill(group.bootstrap, bulk, 15_000, partition, padding=1_000)
    busy = Busy()
    await group.join((high, bulk), busy)
    await until(lambda: len(busy.taken) > 1_000)
    producer = Producer({"bootstrap.servers": group.bootstrap, "linger.ms": 0})
    stored: dict[bytes, int] = {}
    for number in range(60):
        name = str(number).encode()
        producer.produce(
            high, name, partition=number % 2, on_delivery=lambda _, m: stored.setdefault(m.value(), len(busy.taken))
        )
        await asyncio.to_thread(producer.flush, 20)
        await asyncio.sleep(0.02)
    await until(lambda: len(busy.offsets(high)) == 60)
    assert len(busy.taken) < 30_000, "the backlog must last until the end"
    taken = {record.value: place for place, (record, _) in enumerate(busy.taken) if record.topic == high}
    passed = sorted(taken[name] - stored[name] for name in stored)
    assert passed[len(passed) * 9 // 10] < 500, passed


async def test_records_larger_than_a_fetch_arrive_beside_small_ones(group: Group) -> None:
    """A fetch is bounded for all partitions together: what does not fit comes with another, and is not skipped."""
    (topic,) = make_topics(group.bootstrap, partitions=4)
    producer = Producer({"bootstrap.servers": group.bootstrap, "message.max.bytes": 8_000_000})
    for number in range(24):
        size = FETCH_BYTES * 3 // 2 if number % 3 else 1_000
        producer.produce(topic, b"x" * size, partition=number % 4)
        assert producer.flush(20) == 0
    notes = Notes()
    await group.join((topic,), notes)
    await until(lambda: len(notes.taken) == 24)
    assert sum(len(record.value or b"") > FETCH_BYTES for record, _ in notes.taken) == 16
    assert sorted((record.partition, record.offset) for record, _ in notes.taken) == [
        (partition, offset) for partition in range(4) for offset in range(6)
    ]
