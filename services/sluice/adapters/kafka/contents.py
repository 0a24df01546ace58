"""Send events and dead letters read again, by the places where they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException

from sluice.adapters.kafka.pages import read_topic
from sluice.adapters.kafka.ranges import taken
from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.errors import SluiceError
from sluice.domain.outcome import Source
from sluice.domain.topics import DEAD, SEND
from sluice.ports.intake import Taken

_APART = 200
"""Offsets: what is nearer than this to the one before is read on the way, rather than sought."""
_SMALL = {"fetch.message.max.bytes": 1 << 20, "queued.max.messages.kbytes": 4096, "fetch.wait.max.ms": 50}
"""Few records of each stretch are wanted: what is fetched beyond them is thrown away."""


class KafkaContents:
    """See :class:`sluice.ports.redrive.Contents`. ``options`` are librdkafka's. For one thread at a time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._consumer = reader({**_SMALL, **options})

    def first_kept(self) -> dict[tuple[str, int], int]:
        """See the port; raises :class:`SluiceError` when Kafka does not answer."""
        kept = {}
        try:
            for topic in (*SEND.values(), DEAD):
                for partition in self._consumer.list_topics(topic, timeout=10).topics[topic].partitions:
                    kept[topic, partition], _ = ends(self._consumer, topic, partition)
        except KafkaException as error:
            raise _away(error) from error
        return kept

    def fetch(self, sources: Sequence[Source]) -> list[Taken | None]:
        """See the port."""
        wanted: dict[tuple[str, int], set[int]] = defaultdict(set)
        for source in sources:
            wanted[source.topic, source.partition].add(source.offset)
        found: dict[tuple[str, int, int], Taken] = {}
        try:
            for (topic, partition), offsets in wanted.items():
                low, high = ends(self._consumer, topic, partition)
                for first, last in _stretches(sorted(offset for offset in offsets if low <= offset < high)):
                    for message in read_range(self._consumer, topic, partition, first, last + 1):
                        record = taken(message)
                        if record.offset in offsets:
                            found[topic, partition, record.offset] = record
        except KafkaException as error:
            raise _away(error) from error
        return [found.get((source.topic, source.partition, source.offset)) for source in sources]

    def letters(self) -> Iterable[Taken]:
        """See the port."""
        try:
            yield from read_topic(self._options, DEAD)
        except KafkaException as error:
            raise _away(error) from error

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _stretches(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last offset of each stretch that is read in one go."""
    first = last = -1
    for offset in offsets:
        if first >= 0 and offset - last <= _APART:
            last = offset
            continue
        if first >= 0:
            yield first, last
        first = last = offset
    if first >= 0:
        yield first, last


def _away(error: KafkaException) -> SluiceError:
    return SluiceError(f"Kafka cannot be read: {error.args[0].str()}")
