"""Whether partitions hold records that were not read yet, asked beside the consumer that should have read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from sluice.adapters.kafka.reading import ends, reader
from sluice.adapters.kafka.survey import KafkaAway

ASKED = 40
"""Times that a record is waited for, half a second each."""


class KafkaBacklog:
    """Asks for a consumer group, without joining it."""

    def __init__(self, options: Mapping[str, Any], group: str) -> None:
        # One record is wanted, of partitions that may hold gigabytes.
        small = {"fetch.message.max.bytes": 64 * 1024, "queued.max.messages.kbytes": 1024}
        self._options = {**options, **small, "group.id": group}

    def waiting(self, places: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
        """Of partitions, by the offset to read next, those with a record there or later.

        A negative offset stands for the group's commit, or the first record kept. A record is looked for, because the
        log's end alone says little: transactions and compaction leave offsets without one. Blocks; raises
        :class:`KafkaAway`.
        """
        try:
            consumer = reader(self._options)
            try:
                return {place for place, following in places.items() if self._has_record(consumer, place, following)}
            finally:
                consumer.close()
        except KafkaException as error:
            raise KafkaAway(f"Kafka does not answer ({error.args[0].name().strip('_').lower()})") from error

    def _has_record(self, consumer: Any, place: tuple[str, int], following: int) -> bool:
        low, high = ends(consumer, *place)
        if following < 0:
            following = consumer.committed([TopicPartition(*place)], timeout=20)[0].offset
        first = max(low, following)
        if first >= high:
            return False
        consumer.assign([TopicPartition(*place, first)])
        for _ in range(ASKED):
            for message in consumer.consume(1, timeout=0.5):
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                return True
            if consumer.position([TopicPartition(*place)])[0].offset >= high:
                return False
        raise KafkaAway("Kafka does not give the records that it says it has")
