"""Reading ranges of a partition to their end although brokers restart and leaders move meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sluice.adapters.kafka.reading import ends, read_range, reader

log = structlog.get_logger(__name__)
T = TypeVar("T")
AGAIN_S = 0.5
ASK_S = 20.0
"""Seconds that one question to the broker may take."""
REFUSED = frozenset(
    (
        KafkaError._AUTHENTICATION,  # noqa: SLF001  (a public constant)
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    )
)
"""What does not pass by itself."""


class SteadyReader:
    """Goes on where it stood after an error, until nothing has come for ``patience_s`` seconds.

    Then, and at once where Kafka denies access, the :class:`KafkaException` is raised. Methods block. ``name`` says in
    the log what is read.
    """

    def __init__(self, options: Mapping[str, Any], patience_s: float, name: str) -> None:
        self._options = options
        self._patience_s = patience_s
        self._name = name
        self._moved_at = time.monotonic()
        self._consumer: Consumer | None = None

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset kept and the offset after the last record."""
        return self._ask(lambda consumer, wait: ends(consumer, topic, partition, wait))

    def offset_at(self, topic: str, partition: int, milliseconds: int) -> int | None:
        """Of the first record stored then or later (milliseconds since the epoch); None when there is none."""

        def ask(consumer: Consumer, wait: float) -> int | None:
            found = consumer.offsets_for_times([TopicPartition(topic, partition, milliseconds)], timeout=wait)[0]
            # Left alone, an error would be taken for a partition without such a record.
            if found.error is not None:
                raise KafkaException(found.error)
            return int(found.offset) if found.offset >= 0 else None

        return self._ask(ask)

    def records(self, topic: str, partition: int, first: int, end: int) -> Iterator[Message]:
        """Each record from offset ``first`` to before ``end`` once, in order."""
        following = first
        while following < end:
            try:
                for message in read_range(self._open(), topic, partition, following, end, self._patience_s / 3):
                    following = (message.offset() or 0) + 1
                    self._moved_at = time.monotonic()
                    yield message
            except KafkaException as error:
                self._go_on_after(error)
            else:
                return

    def close(self) -> None:
        """Let go of the connection; another call opens one again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _ask(self, question: Callable[[Consumer, float], T]) -> T:
        while True:
            try:
                found = question(self._open(), min(ASK_S, self._patience_s / 2))
            except KafkaException as error:
                self._go_on_after(error)
            else:
                self._moved_at = time.monotonic()
                return found

    def _open(self) -> Consumer:
        self._consumer = self._consumer or reader(self._options)
        return self._consumer

    def _go_on_after(self, error: KafkaException) -> None:
        """Let go, and wait a little; raises ``error`` when it is not to be got over."""
        self.close()
        still = time.monotonic() - self._moved_at
        reason = error.args[0] if error.args else None
        if still > self._patience_s or (isinstance(reason, KafkaError) and reason.code() in REFUSED):
            raise error
        log.warning("reading.again", what=self._name, error=str(error), seconds=round(still, 1))
        time.sleep(AGAIN_S)
