"""Demands in the topic ``mail.demand``, which has one partition and the broker's times."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, TopicPartition

from sluice.adapters.kafka.loading import LoadingThread
from sluice.adapters.kafka.reading import BATCH, ends
from sluice.domain.errors import Undecodable
from sluice.domain.sharing import Report, decode_report, encode_report
from sluice.domain.topics import DEMAND
from sluice.ports.bus import Bus, Position, Record

log = structlog.get_logger(__name__)
LOOKED_BACK_S = 60.0
"""Seconds that are read at start: what any worker said long enough ago has ended by now."""


class KafkaDemands(LoadingThread):
    """Implements :class:`sluice.ports.demands.Demands`, with a thread that reads. ``start`` before use."""

    def __init__(self, options: Mapping[str, Any], bus: Bus) -> None:
        super().__init__(options, "demands")
        self._bus = bus
        self._heard: deque[tuple[Report, float]] = deque()

    def say(self, report: Report) -> None:
        """See :class:`sluice.ports.demands.Demands`."""
        self._bus.publish(Record(DEMAND, encode_report(report), partition=0)).add_done_callback(_not_stored)

    def heard(self) -> list[tuple[Report, float]]:
        """See :class:`sluice.ports.demands.Demands`."""
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def _follow(self, consumer: Consumer) -> None:
        _, high = ends(consumer, DEMAND, 0)
        since = TopicPartition(DEMAND, 0, int((time.time() - LOOKED_BACK_S) * 1000))
        first = consumer.offsets_for_times([since], timeout=20)[0].offset
        place = TopicPartition(DEMAND, 0, first if first >= 0 else high)
        consumer.assign([place])
        while not self._stopping.is_set():
            if not self._loaded.is_set() and consumer.position([place])[0].offset >= high:
                self._loaded.set()
            if first < 0 or first >= high:
                self._loaded.set()
            for message in consumer.consume(1 if self._loaded.is_set() else BATCH, timeout=0.2):
                if (error := message.error()) is not None:
                    log.warning("demands.unreadable", error=error.str())
                    continue
                self._take(message.value() or b"", message.timestamp()[1] / 1000)

    def _take(self, value: bytes, at: float) -> None:
        try:
            self._heard.append((decode_report(value), at))
        except Undecodable as error:
            log.warning("demands.refused", field=error.field, reason=error.reason)


def _not_stored(stored: asyncio.Future[Position]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.warning("demands.not_said", error=str(error))
