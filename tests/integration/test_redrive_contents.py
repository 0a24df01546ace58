"""Records read again by their places: the memory twin, and Kafka itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from tests.support.stack import Stack

from sluice.adapters.kafka.contents import KafkaContents
from sluice.adapters.memory.redrive import MemoryContents
from sluice.domain.outcome import Source
from sluice.domain.topics import DEAD, SEND
from sluice.ports.intake import Taken
from sluice.ports.redrive import Contents

pytestmark = pytest.mark.timeout(300)
RECORDS, GONE = 1500, 300
Log = tuple[Contents, str]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.slow)])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """A topic of two partitions with 1,500 records each, the first 300 of which have been dropped."""
    topic = f"contents-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        memory = MemoryContents(
            Taken(topic, partition, offset, b"k", f"{partition}-{offset}".encode(), [("h", b"v")], 0.0)
            for partition in range(2)
            for offset in range(RECORDS)
        )
        memory.first = dict.fromkeys(((topic, 0), (topic, 1)), GONE)
        yield memory, topic
        return
    stack: Stack = request.getfixturevalue("stack")
    admin = AdminClient({"bootstrap.servers": stack.bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": stack.bootstrap})
    for partition in range(2):
        for offset in range(RECORDS):
            producer.produce(topic, f"{partition}-{offset}".encode(), b"k", partition, headers=[("h", b"v")])
    assert producer.flush(60) == 0
    for future in admin.delete_records([TopicPartition(topic, partition, GONE) for partition in range(2)]).values():
        future.result(30)
    contents = KafkaContents({"bootstrap.servers": stack.bootstrap})
    yield contents, topic
    contents.close()
    admin.delete_topics([topic])[topic].result(30)


def test_records_are_found_by_their_places_in_the_order_they_were_asked_for(log: Log) -> None:
    contents, topic = log
    places = [(1, 1499), (0, 300), (0, 301), (0, 900), (1, 777), (0, 300), (1, 1498), (0, 450)]
    found = contents.fetch([Source(topic, partition, offset) for partition, offset in places])
    assert [record and record.value for record in found] == [f"{p}-{o}".encode() for p, o in places]
    assert {(record.key, tuple(record.headers)) for record in found if record} == {(b"k", (("h", b"v"),))}
    assert contents.fetch([]) == []


def test_what_is_dropped_or_was_never_there_is_none(log: Log) -> None:
    contents, topic = log
    places = [(0, 0), (0, 299), (0, 300), (1, 1500), (1, 10**9)]
    found = contents.fetch([Source(topic, partition, offset) for partition, offset in places])
    assert [record is not None for record in found] == [False, False, True, False, False]


@pytest.mark.slow
def test_what_is_kept_is_told_of_all_topics_that_hold_events(stack: Stack) -> None:
    contents = KafkaContents({"bootstrap.servers": stack.bootstrap})
    try:
        kept = contents.first_kept()
    finally:
        contents.close()
    assert {topic for topic, _ in kept} == {*SEND.values(), DEAD}
    assert {partition for topic, partition in kept if topic == SEND["bulk"]} == set(range(4))
