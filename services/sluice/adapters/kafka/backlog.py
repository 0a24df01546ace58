"""Whether partitions hold records that were not read yet, asked beside the consumer that should have read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.adapters.kafka.survey import KafkaAway


class KafkaBacklog:
    """Asks for a consumer group, without joining it."""

    def __init__(self, options: Mapping[str, Any], group: str) -> None:
        self._options = {**options, "group.id": group}

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
        return next(iter(read_range(consumer, *place, first, high)), None) is not None
