"""Reference data, followed in the compacted ``ref.*`` topics for as long as the process lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, TopicPartition

from sluice.adapters.kafka.loading import LoadingThread
from sluice.adapters.kafka.reading import BATCH, ends
from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.topics import PROFILES, SUPPRESSIONS, TEMPLATES, TENANTS

log = structlog.get_logger(__name__)
FOLLOWED = (TENANTS, TEMPLATES, PROFILES, SUPPRESSIONS)


class KafkaReference(LoadingThread):
    """Fills a catalogue from a thread of its own. A bad record is logged and skipped; what was known stays."""

    def __init__(self, options: Mapping[str, Any], catalogue: Catalogue, topics: tuple[str, ...] = FOLLOWED) -> None:
        super().__init__(options, "reference")
        self._catalogue = catalogue
        self._topics = topics

    def _follow(self, consumer: Consumer) -> None:
        partitions = [
            TopicPartition(topic, partition, 0)
            for topic in self._topics
            for partition in (consumer.list_topics(topic, timeout=20).topics[topic].partitions or [0])
        ]
        waiting = {}
        for part in partitions:
            low, high = ends(consumer, part.topic, part.partition)
            part.offset = low
            if high > low:
                waiting[part.topic, part.partition] = high
        consumer.assign(partitions)
        while not self._stopping.is_set():
            if not waiting:
                self._loaded.set()
            for message in consumer.consume(BATCH, timeout=0.2):
                if (error := message.error()) is not None:
                    log.warning("reference.unreadable", error=error.str())
                    continue
                self._apply(message.topic() or "", message.key() or b"", message.value())
            for place in list(waiting):
                if consumer.position([TopicPartition(*place)])[0].offset >= waiting[place]:
                    del waiting[place]

    def _apply(self, topic: str, key: bytes, value: bytes | None) -> None:
        try:
            self._catalogue.apply(topic, key, value)
        except Undecodable as error:
            log.warning("reference.refused", topic=topic, field=error.field, reason=error.reason)
