"""Reading given ranges of a topic, outside any consumer group."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sluice.ports.intake import Taken
from sluice.ports.outcomes import Slice, SourceAway

_BEYOND = 1 << 63


class Range(msgspec.Struct, frozen=True):
    """Offsets ``first`` to ``last`` of a partition, both included."""

    partition: int
    first: int
    last: int


def parse_ranges(text: str) -> list[Range]:
    """Read ``partition:first-last,…``; raises :class:`ValueError` for anything else."""
    ranges = []
    for part in text.split(",") if text else ():
        partition, _, span = part.partition(":")
        first, _, last = span.partition("-")
        ranges.append(Range(int(partition), int(first), int(last)))
    return ranges


class RangeReader:
    """Reads ranges of ``topic``. ``settings`` are a confluent-kafka consumer's; its group is never joined."""

    def __init__(self, settings: Mapping[str, object], topic: str) -> None:
        self._settings = {**settings, "enable.partition.eof": True}
        self._topic = topic
        self._consumer: Consumer | None = None

    def read(self, ranges: Sequence[Range], timeout: float) -> list[Slice]:
        """All records of the ranges that the log still has, in order.

        Raises :class:`SourceAway` when nothing came for ``timeout`` seconds.
        """
        consumer = self._consumer = self._consumer or Consumer(self._settings)
        found: dict[int, list[Taken]] = {part.partition: [] for part in ranges}
        unread = {part.partition: part for part in ranges}
        consumer.assign([TopicPartition(self._topic, part.partition, part.first) for part in ranges])
        quiet_since = time.monotonic()
        try:
            while unread:
                messages = consumer.consume(5000, timeout=0.1)
                if messages:
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > timeout:
                    raise SourceAway(f"ranges of {self._topic} could not be read within {timeout:.0f} s")
                for message in messages:
                    part = unread.get(partition_of(message))
                    if part is None:
                        continue
                    offset = _end_or_offset(message)
                    if message.error() is None and offset <= part.last:
                        found[part.partition].append(taken(message))
                    if offset >= part.last:
                        del unread[part.partition]
        finally:
            consumer.unassign()
        return [Slice(part.partition, part.first, part.last, found[part.partition]) for part in ranges]

    def close(self) -> None:
        """Let go of the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def partition_of(message: Message) -> int:
    """The partition a message belongs to; -1 for an error that belongs to none."""
    partition = message.partition()
    return -1 if partition is None else partition


def taken(message: Message) -> Taken:
    """A message as the port's record."""
    pairs: Any = message.headers() or []
    headers = [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in pairs]
    key: Any = message.key()
    value: Any = message.value()
    return Taken(
        message.topic() or "",
        partition_of(message),
        message.offset() or 0,
        key,
        value,
        headers,
        message.timestamp()[1] / 1000,
    )


def passing(error: KafkaError) -> bool:
    """Whether the client gets over it by itself."""
    return bool(error.retriable()) or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001 (public constants)


def _end_or_offset(message: Message) -> int:
    """The message's offset; at the partition's end beyond every offset; -1 for an error that passes."""
    error = message.error()
    if error is None:
        return message.offset() or 0
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (a public constant)
        return _BEYOND
    if passing(error):
        return -1
    raise KafkaException(error)
