"""The bus: the memory twin and Kafka keep the same promises."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.follower import KafkaFollower
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.memory.bus import MemoryBus
from sluice.ports.bus import Bus, NotStored, Record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PARTITIONS = 3


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker."""
    with EmbeddedKafka.on_free_ports(Path(tmp_path_factory.mktemp("kafka"))) as kafka:
        yield kafka.bootstrap


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of its own."""
    name = f"t.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)
    return name


@pytest.fixture(params=["memory", "kafka"])
async def bus(request: pytest.FixtureRequest, topic: str, bootstrap: str) -> AsyncIterator[Bus]:
    """Either."""
    if request.param == "memory":
        yield MemoryBus({topic: PARTITIONS})
        return
    real = KafkaBus({"bootstrap.servers": bootstrap})
    yield real
    assert await real.close() == 0


async def test_records_of_a_partition_are_stored_in_the_order_of_the_calls(bus: Bus, topic: str) -> None:
    """Attempt before outcome: the ledger depends on it."""
    stored = [bus.publish(Record(topic, str(number).encode(), partition=1)) for number in range(200)]
    offsets = [(await each).offset for each in stored]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) == 200


async def test_records_of_a_key_meet_in_one_partition(bus: Bus, topic: str) -> None:
    """And keys spread."""
    places = {
        key: {(await bus.publish(Record(topic, b"x", f"key{key}".encode()))).partition for _ in range(3)}
        for key in range(30)
    }
    assert all(len(found) == 1 for found in places.values())
    assert len(set.union(*places.values())) > 1


async def test_partitions_are_counted_and_a_missing_topic_is_said_to_be(bus: Bus, topic: str) -> None:
    """With what to do about it, in Kafka's case."""
    assert bus.partitions(topic) == PARTITIONS
    with pytest.raises(NotStored, match="does not exist"):
        bus.partitions("no.such.topic")


async def test_a_record_arrives_with_headers_key_and_value(bootstrap: str, topic: str) -> None:
    """Read back by the follower; a null value is a tombstone."""
    bus = KafkaBus({"bootstrap.servers": bootstrap})
    headers = [("a", b"1"), ("a", b"2"), ("empty", b"")]
    await bus.publish(Record(topic, b"v", b"k", headers, 2))
    await bus.publish(Record(topic, None, b"k", [], 2))
    follower = KafkaFollower({"bootstrap.servers": bootstrap}, f"g-{topic}", (topic,))
    found = []
    while len(found) < 2:
        found += (await follower.poll(0.5)).records
    assert [(record.value, record.key, record.partition) for record in found] == [(b"v", b"k", 2), (None, b"k", 2)]
    assert found[0].headers == headers
    await follower.commit({(topic, 2): 1})
    await follower.close()
    again = KafkaFollower({"bootstrap.servers": bootstrap}, f"g-{topic}", (topic,))
    resumed = []
    while not resumed:
        resumed += (await again.poll(0.5)).records
    assert [record.offset for record in resumed] == [1]
    await again.close()
    await bus.close()


async def test_what_no_broker_acknowledges_is_not_called_stored() -> None:
    """Row 11: nothing is reported accepted without the broker."""
    bus = KafkaBus({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, timeout_s=1.0)
    with pytest.raises(NotStored):
        await bus.publish(Record("t", b"x"))
    await bus.close(1.0)


async def test_what_is_urgent_takes_what_waits_before_it_along(bootstrap: str, topic: str) -> None:
    """A minute's gathering: only the first record, and the urgent one with all before it, go without it."""
    bus = KafkaBus({"bootstrap.servers": bootstrap}, gather_ms=60_000, quiet_ms=60_000)
    first = await bus.publish(Record(topic, b"at once", partition=0))
    gathered = [bus.publish(Record(topic, b"later", partition=0)) for _ in range(20)]
    urgent = await bus.publish(Record(topic, b"now", partition=0, urgent=True))
    offsets = [(await each).offset for each in gathered]
    assert [first.offset, *offsets, urgent.offset] == list(range(22))
    last = bus.publish(Record(topic, b"at the end", partition=0))
    assert await bus.close() == 0
    assert (await last).offset == 22


async def test_what_is_gathered_goes_when_nothing_more_comes(bootstrap: str, topic: str) -> None:
    """However long there would be time to gather more."""
    bus = KafkaBus({"bootstrap.servers": bootstrap}, gather_ms=60_000)
    stored = [bus.publish(Record(topic, b"x", partition=0)) for _ in range(20)]
    assert [(await each).offset for each in stored] == list(range(20))
    assert await bus.close() == 0
