"""What is being written to ``mail.outcome``, as it comes, read without being a member of any group."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from sluice.adapters.kafka.reading import BATCH, ends, reader
from sluice.domain.ledger import CHECKPOINT_TYPE
from sluice.domain.topics import OUTCOME

LOOK_EVERY_S = 30.0
"""How often it is looked for partitions that were added."""
TIMEOUT_S = 5.0
_CHECKPOINT = CHECKPOINT_TYPE.encode()

Place = tuple[str, int]


class Heard(msgspec.Struct, frozen=True):
    """A record: an outcome event's JSON, or a checkpoint's. ``at`` is the record's time, seconds since the epoch."""

    partition: int
    at: float
    checkpoint: bool
    value: bytes


class OutcomeTail:
    """Reads from ``since`` (seconds since the epoch) on. Methods block, and raise :class:`KafkaException`.

    Once begun it lives through a Kafka that goes away: nothing comes meanwhile, and then all that was missed.
    """

    def __init__(self, options: Mapping[str, Any], since: float) -> None:
        self._consumer: Consumer = reader(options)
        self._since = since
        self._behind: dict[int, int] = {}
        self._partitions: set[int] = set()
        self._look_at = 0.0

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there at the beginning has been read."""
        return not self._behind

    def begin(self) -> None:
        """Find the partitions and where to begin in each."""
        for partition in sorted(self._known()):
            low, high = ends(self._consumer, OUTCOME, partition)
            moment = TopicPartition(OUTCOME, partition, int(self._since * 1000))
            # Negative when nothing was written since.
            first = self._consumer.offsets_for_times([moment], timeout=TIMEOUT_S)[0].offset
            first = max(low, first) if first >= 0 else high
            self._partitions.add(partition)
            if first < high:
                self._behind[partition] = high
            self._consumer.incremental_assign([TopicPartition(OUTCOME, partition, first)])
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def poll(self, seconds: float) -> list[Heard]:
        """What came within ``seconds``."""
        if time.monotonic() >= self._look_at:
            self._add_new()
        heard = []
        for message in self._consumer.consume(BATCH, timeout=max(0.0, seconds)):
            if (error := message.error()) is not None:
                if error.fatal():
                    raise KafkaException(error)
                continue
            heard.append(_heard(message))
        if self._behind:
            places = [TopicPartition(OUTCOME, partition) for partition in self._behind]
            for place in self._consumer.position(places):
                if place.offset >= self._behind[place.partition]:
                    del self._behind[place.partition]
        return heard

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _known(self) -> set[int]:
        return set(self._consumer.list_topics(OUTCOME, timeout=TIMEOUT_S).topics[OUTCOME].partitions)

    def _add_new(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            new = self._known() - self._partitions
        except KafkaException:
            # It is asked again; whoever looks at the rest of Kafka says that it is away.
            return
        if new:
            self._consumer.incremental_assign([TopicPartition(OUTCOME, partition, 0) for partition in sorted(new)])
            self._partitions |= new


def _heard(message: Message) -> Heard:
    checkpoint = dict(message.headers() or []).get("ce_type") == _CHECKPOINT
    return Heard(message.partition() or 0, message.timestamp()[1] / 1000, checkpoint, message.value() or b"")
