"""Where consumer groups stand: moved by hand, while nobody is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 20.0


class GroupPlaces:
    """Moves a group's offsets. All block and raise :class:`KafkaException`; Kafka refuses for a group with members."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._admin = AdminClient(dict(options))

    def forget(self, group: str) -> None:
        """Forget where the group stands: it begins anew at the oldest records. One that there is not is left so."""
        try:
            self._admin.delete_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "GROUP_ID_NOT_FOUND":
                raise

    def move(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Have the group go on at these offsets, by partition. Notes of batches under way are dropped with the move."""
        wanted = [TopicPartition(topic, partition, offset, "") for partition, offset in sorted(offsets.items())]
        if not wanted:
            return
        request = [ConsumerGroupTopicPartitions(group, wanted)]
        done = self._admin.alter_consumer_group_offsets(request, request_timeout=TIMEOUT_S)[group].result(TIMEOUT_S)
        for part in done.topic_partitions or ():
            if part.error is not None:
                raise KafkaException(part.error)
