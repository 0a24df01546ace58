"""Reading a partition from one offset to its end, for what is rebuilt from the log at start."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

BATCH = 2000


def reader(options: Mapping[str, Any]) -> Consumer:
    """A consumer that assigns partitions by hand and commits nothing."""
    return Consumer(
        {
            "group.id": "sluice-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "queued.max.messages.kbytes": 64 * 1024,
            **options,
        }
    )


def ends(consumer: Consumer, topic: str, partition: int, timeout: float = 20.0) -> tuple[int, int]:
    """First offset kept and the offset after the last record; ``timeout`` in seconds."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout)
    return int(low), int(high)


def read_range(
    consumer: Consumer, topic: str, partition: int, first: int, end: int, quiet_s: float = math.inf
) -> Iterator[Message]:
    """Records from offset ``first`` to before ``end``.

    Raises :class:`KafkaException` when the log cannot be read, or when nothing has come of it for ``quiet_s`` seconds.
    """
    if first >= end:
        return
    consumer.assign([TopicPartition(topic, partition, first)])
    following, reached, moved_at = first, first, time.monotonic()
    while True:
        # Asking for no more than there can be: consume() waits until it has as many as it was asked for.
        for message in consumer.consume(min(BATCH, max(1, end - following)), timeout=0.2):
            if (error := message.error()) is not None:
                raise KafkaException(error)
            following = (message.offset() or 0) + 1
            if following <= end:
                yield message
        # The position, not the last offset seen: compaction leaves no record at the end of some ranges.
        position = consumer.position([TopicPartition(topic, partition)])[0].offset
        if position >= end:
            return
        if position != reached:
            reached, moved_at = position, time.monotonic()
        elif time.monotonic() - moved_at > quiet_s:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing read for {quiet_s:.0f} s"))  # noqa: SLF001
