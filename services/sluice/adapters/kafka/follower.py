"""A group member on confluent-kafka's consumer, polled from asyncio."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from sluice.adapters.kafka.survey import KafkaAway, KafkaSurvey
from sluice.domain.mail import Headers
from sluice.ports.follower import Part, Polled
from sluice.ports.intake import Taken
from sluice.ports.metrics import LAG, PARTITIONS, TAKEN, Figure

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 10.0
"""How often Kafka is asked how far the group is behind."""
LOOK_S = 1.0
"""How long it may take to answer: polling waits for it."""


class KafkaFollower:
    """Subscribes ``topics`` in ``group``. All calls into the consumer happen on one thread, in order."""

    def __init__(self, options: Mapping[str, Any], group: str, topics: tuple[str, ...], *, batch: int = 500) -> None:
        self._batch = batch
        self._revoked: set[Part] = set()
        self._owned: set[Part] = set()
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._lag: dict[str, int] = {}
        self._look_at = time.monotonic()
        self._survey = KafkaSurvey(options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{group}-poll")
        self._consumer = Consumer(
            {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 45_000,
                "max.poll.interval.ms": 300_000,
                "queued.max.messages.kbytes": 32 * 1024,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                **options,
            }
        )
        self._consumer.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke)

    def _on_assign(self, _: Any, parts: list[TopicPartition]) -> None:
        self._owned = {(part.topic, part.partition) for part in parts}
        log.info("partitions.assigned", count=len(parts))

    def _on_revoke(self, _: Any, parts: list[TopicPartition]) -> None:
        gone = {(part.topic, part.partition) for part in parts}
        self._revoked |= gone
        self._owned -= gone

    async def poll(self, wait: float) -> Polled:
        """See :class:`sluice.ports.follower.Follower`. Raises :class:`KafkaException` for what polling cannot mend."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._poll, wait)

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        for topic, count in list(self._counts.items()):
            yield Figure(TAKEN, count, (topic,))
        for topic, behind in self._lag.items():
            yield Figure(LAG, behind, (topic,))
        yield Figure(PARTITIONS, len(self._owned))

    def _look(self) -> None:
        """See how far the commits are behind; what Kafka does not say at once stays as it was."""
        lag: dict[str, int] = {}
        try:
            spans = self._survey.spans_of(self._owned, LOOK_S)
            for at in self._consumer.committed([TopicPartition(*part) for part in self._owned], timeout=LOOK_S):
                low, high = spans[at.topic, at.partition]
                lag[at.topic] = lag.get(at.topic, 0) + max(0, high - max(at.offset, low))
        except (KafkaException, KafkaAway) as error:
            log.info("kafka.lag_not_known", error=str(error))
        else:
            self._lag = lag

    def _poll(self, wait: float) -> Polled:
        if self._owned and time.monotonic() >= self._look_at:
            self._look()
            self._look_at = time.monotonic() + LOOK_EVERY_S
        messages = self._consumer.consume(self._batch, timeout=max(0.0, wait))
        revoked, self._revoked = frozenset(self._revoked), set()
        records: list[Taken] = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.fatal():
                    raise KafkaException(error)
                log.warning("kafka.poll", error=error.str())
                continue
            records.append(_taken(message))
            self._counts[records[-1].topic] += 1
        return Polled(records, revoked)

    async def commit(self, offsets: dict[Part, int]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, offsets)

    def _commit(self, offsets: dict[Part, int]) -> None:
        mine = [TopicPartition(*part, offset) for part, offset in offsets.items() if part in self._owned]
        if not mine:
            return
        try:
            self._consumer.commit(offsets=mine, asynchronous=False)
        except KafkaException as error:
            # The group moved on; whoever owns the partition reads these records again.
            log.warning("kafka.commit", error=str(error))

    def pause(self, parts: set[Part]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self._consumer.pause([TopicPartition(*part) for part in parts if part in self._owned])

    def resume(self, parts: set[Part]) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        self._consumer.resume([TopicPartition(*part) for part in parts if part in self._owned])

    async def close(self) -> None:
        """See :class:`sluice.ports.follower.Follower`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown()


def _taken(message: Message) -> Taken:
    pairs: Any = message.headers() or []
    headers: Headers = [(name, _bytes(value)) for name, value in pairs]
    return Taken(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        headers,
        message.timestamp()[1] / 1000,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
