"""How long the oldest records that a group has not handled have been in the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from sluice.adapters.kafka.reading import reader

Place = tuple[str, int]


class KafkaAges:
    """Looks at one record of each partition. Methods block, and raise :class:`confluent_kafka.KafkaException`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        # One record of each is wanted, of partitions that may hold gigabytes.
        small = {"fetch.message.max.bytes": 16 * 1024, "queued.max.messages.kbytes": 1024}
        self._consumer: Consumer = reader({**options, **small})

    def stored_at(self, places: Mapping[Place, int], seconds: float) -> dict[Place, float]:
        """When the record at an offset, or the first after it, was stored: seconds since the epoch.

        What does not come within ``seconds`` is left out.
        """
        found: dict[Place, float] = {}
        if not places:
            return found
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
        deadline = time.monotonic() + seconds
        try:
            while len(found) < len(places) and time.monotonic() < deadline:
                for message in self._consumer.consume(1, timeout=0.1):
                    place = (message.topic() or "", message.partition() or 0)
                    if message.error() is None and place not in found:
                        found[place] = message.timestamp()[1] / 1000
                        # Its other records would come before those of the partitions that are still waited for.
                        self._consumer.incremental_unassign([TopicPartition(*place)])
        finally:
            self._consumer.unassign()
        return found

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()
