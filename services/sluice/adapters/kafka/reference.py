"""Reference data, followed in the compacted ``ref.*`` topics for as long as the process lives."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, TopicPartition

from sluice.adapters.kafka.loading import LoadingThread
from sluice.adapters.kafka.reading import BATCH, ends
from sluice.adapters.kafka.survey import KafkaAway, KafkaSurvey
from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.topics import PROFILES, SUPPRESSIONS, TEMPLATES, TENANTS
from sluice.ports.metrics import REFERENCE_AGE, REFERENCE_LAG, Figure

log = structlog.get_logger(__name__)
FOLLOWED = (TENANTS, TEMPLATES, PROFILES, SUPPRESSIONS)
LOOK_EVERY_S = 5.0
"""How often Kafka is asked whether there is more than what has come."""
LOOK_S = 1.0
"""How long it may take to answer: what comes waits for it."""


class KafkaReference(LoadingThread):
    """Fills a catalogue from a thread of its own. A bad record is logged and skipped; what was known stays."""

    def __init__(self, options: Mapping[str, Any], catalogue: Catalogue, topics: tuple[str, ...] = FOLLOWED) -> None:
        super().__init__(options, "reference")
        self._catalogue = catalogue
        self._topics = topics
        self._survey = KafkaSurvey(options)
        self._lag = 0
        self._complete_at = time.monotonic()

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        yield Figure(REFERENCE_LAG, self._lag)
        yield Figure(REFERENCE_AGE, time.monotonic() - self._complete_at)

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
        look_at = 0.0
        while not self._stopping.is_set():
            if not waiting:
                self._loaded.set()
                if time.monotonic() >= look_at:
                    self._look(consumer, partitions)
                    look_at = time.monotonic() + LOOK_EVERY_S
            for message in consumer.consume(BATCH, timeout=0.2):
                if (error := message.error()) is not None:
                    log.warning("reference.unreadable", error=error.str())
                    continue
                self._apply(message.topic() or "", message.key() or b"", message.value())
            for place in list(waiting):
                if consumer.position([TopicPartition(*place)])[0].offset >= waiting[place]:
                    del waiting[place]

    def _look(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """See whether everything has come; while Kafka does not answer, the age grows."""
        try:
            spans = self._survey.spans_of([(part.topic, part.partition) for part in partitions], LOOK_S)
        except KafkaAway as error:
            log.warning("reference.not_known", error=str(error))
            return
        lag = 0
        for at in consumer.position([TopicPartition(part.topic, part.partition) for part in partitions]):
            low, high = spans[at.topic, at.partition]
            lag += max(0, high - max(at.offset, low))
        self._lag = lag
        if not lag:
            self._complete_at = time.monotonic()

    def _apply(self, topic: str, key: bytes, value: bytes | None) -> None:
        try:
            self._catalogue.apply(topic, key, value)
        except Undecodable as error:
            log.warning("reference.refused", topic=topic, field=error.field, reason=error.reason)
