"""Looking through a topic without being a member of any group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaException

from sluice.adapters.kafka.ranges import taken
from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.ports.intake import Taken


def read_topic(options: Mapping[str, Any], topic: str) -> Iterator[Taken]:
    """Every record that a topic holds now, partition after partition.

    Raises :class:`KafkaException`; there is nothing to read in a topic that does not exist.
    """
    consumer = reader(options)
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        for partition in sorted(found.partitions):
            first, end = ends(consumer, topic, partition)
            for message in read_range(consumer, topic, partition, first, end):
                yield taken(message)
    finally:
        consumer.close()


def read_one(options: Mapping[str, Any], topic: str, partition: int, offset: int) -> Taken | None:
    """The record at an offset; None when it is no longer, or not yet, there."""
    consumer = reader(options)
    try:
        first, end = ends(consumer, topic, partition)
        if not first <= offset < end:
            return None
        for message in read_range(consumer, topic, partition, offset, offset + 1):
            return taken(message)
        return None
    except KafkaException as error:
        if error.args[0].name() in ("_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART"):
            return None
        raise
    finally:
        consumer.close()
