"""How a cluster stands, for whoever operates it: topics, how far groups have come, who is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from sluice.domain.errors import SluiceError

TIMEOUT_S = 10.0

Span = tuple[int, int]
"""The first offset kept and the one after the last record."""


_ENDS: tuple[OffsetSpec, OffsetSpec] = (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]


class KafkaAway(SluiceError):
    """The cluster cannot be reached, or does not answer in time."""


class Group(msgspec.Struct, frozen=True):
    """A consumer group. ``committed`` is the next offset to read, by topic and partition, where there is one."""

    name: str
    members: int
    state: str
    committed: dict[tuple[str, int], int]


class KafkaSurvey:
    """Reads the cluster's state and changes nothing. Methods block, and raise :class:`KafkaAway`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._admin = AdminClient(dict(options))
        self._servers = str(options.get("bootstrap.servers", ""))

    def partitions(self, timeout_s: float = TIMEOUT_S) -> dict[str, int]:
        """How many partitions each topic has."""
        try:
            found = self._admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise self._away(error) from error
        return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}

    def spans(self, partitions: Mapping[str, int]) -> dict[tuple[str, int], Span]:
        """What each partition of the given topics holds."""
        return self.spans_of([(topic, number) for topic, count in partitions.items() for number in range(count)])

    def spans_of(
        self, places: Collection[tuple[str, int]], timeout_s: float = TIMEOUT_S
    ) -> dict[tuple[str, int], Span]:
        """What each of these partitions holds.

        A consumer would answer this too, one partition at a time and each behind its own waiting fetches.
        """
        if not places:
            return {}
        first, end = (self._offsets(places, spec, timeout_s) for spec in _ENDS)
        return {place: (first[place], end[place]) for place in places}

    def _offsets(
        self, places: Collection[tuple[str, int]], spec: OffsetSpec, timeout_s: float
    ) -> dict[tuple[str, int], int]:
        asked = {TopicPartition(*place): spec for place in places}
        try:
            futures = self._admin.list_offsets(asked, request_timeout=timeout_s)
            found = {part: future.result(timeout_s + 1) for part, future in futures.items()}
        except TimeoutError as error:
            raise KafkaAway(f"Kafka does not answer within {timeout_s:g} s") from error
        except KafkaException as error:
            raise self._away(error) from error
        return {(part.topic, part.partition): int(result.offset) for part, result in found.items()}

    def groups(self, names: Iterable[str]) -> dict[str, Group]:
        """The groups by name; one that there is not has no members and no offsets."""
        try:
            described = self._admin.describe_consumer_groups(list(names), request_timeout=TIMEOUT_S)
            return {name: self._group(name, future) for name, future in described.items()}
        except TimeoutError as error:
            raise KafkaAway(f"Kafka does not tell of its groups within {TIMEOUT_S:g} s") from error
        except KafkaException as error:
            raise self._away(error) from error

    def _group(self, name: str, described: Any) -> Group:
        try:
            found = described.result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "GROUP_ID_NOT_FOUND":
                raise
            return Group(name, 0, "DEAD", {})
        request = [ConsumerGroupTopicPartitions(name)]
        offsets = self._admin.list_consumer_group_offsets(request, request_timeout=TIMEOUT_S)[name].result(TIMEOUT_S)
        committed = {
            (part.topic, part.partition): part.offset for part in offsets.topic_partitions or () if part.offset >= 0
        }
        return Group(name, len(found.members), found.state.name, committed)

    def _away(self, error: KafkaException) -> KafkaAway:
        return KafkaAway(f"Kafka does not answer at {self._servers} ({error.args[0].name().strip('_').lower()})")
