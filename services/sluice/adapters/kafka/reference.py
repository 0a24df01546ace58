"""Reference data, followed in the compacted ``ref.*`` topics for as long as the process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaException, TopicPartition

from sluice.adapters.kafka.reading import BATCH, ends, reader
from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.topics import PROFILES, SUPPRESSIONS, TEMPLATES, TENANTS

log = structlog.get_logger(__name__)
FOLLOWED = (TENANTS, TEMPLATES, PROFILES, SUPPRESSIONS)


class KafkaReference:
    """Fills a catalogue from a thread of its own. A bad record is logged and skipped; what was known stays."""

    def __init__(self, options: Mapping[str, Any], catalogue: Catalogue, topics: tuple[str, ...] = FOLLOWED) -> None:
        self._options = options
        self._catalogue = catalogue
        self._topics = topics
        self._stopping = threading.Event()
        self._loaded = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="reference", daemon=True)

    def start(self) -> None:
        """Begin to read; :meth:`wait_loaded` tells when what was there at the start is in."""
        self._thread.start()

    def wait_loaded(self, timeout_s: float) -> bool:
        """Block until loaded; False when that took longer. Raises what made reading impossible."""
        deadline = time.monotonic() + timeout_s
        while not self._loaded.wait(0.1):
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline:
                return False
        return True

    @property
    def loaded(self) -> bool:
        """Whether everything that was in the topics at the start has been taken in."""
        return self._loaded.is_set()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        self._thread.join(5)

    def _follow(self) -> None:
        consumer = reader(self._options)
        try:
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
        except KafkaException as error:
            log.exception("reference.failed")
            self._failure = error
        finally:
            consumer.close()

    def _apply(self, topic: str, key: bytes, value: bytes | None) -> None:
        try:
            self._catalogue.apply(topic, key, value)
        except Undecodable as error:
            log.warning("reference.refused", topic=topic, field=error.field, reason=error.reason)
