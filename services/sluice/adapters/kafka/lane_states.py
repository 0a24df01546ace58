"""What deliver's workers last told of their lanes, read from the checkpoints in ``mail.outcome``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer

from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.errors import Undecodable
from sluice.domain.lanes import LaneState
from sluice.domain.ledger import CHECKPOINT_TYPE, decode_checkpoint
from sluice.domain.topics import OUTCOME

LOOKED_BACK = (500, 10_000)
"""Records of a partition that are looked through, the latest; more only when there is no checkpoint among fewer."""
_CHECKPOINT = CHECKPOINT_TYPE.encode()


class Told(msgspec.Struct, frozen=True):
    """The last checkpoint of a partition: its lanes by name, and when it was written, seconds since the epoch.

    ``at`` is None when there is none among the latest records: its owner has had nothing to tell for long.
    """

    partition: int
    at: float | None
    lanes: dict[str, LaneState]


def read_lane_states(options: Mapping[str, Any]) -> list[Told]:
    """The last checkpoint of each partition. Blocks; raises :class:`confluent_kafka.KafkaException`."""
    consumer = reader(options)
    try:
        partitions = consumer.list_topics(OUTCOME, timeout=20).topics[OUTCOME].partitions
        return [_last(consumer, partition) for partition in sorted(partitions)]
    finally:
        consumer.close()


def _last(consumer: Consumer, partition: int) -> Told:
    low, high = ends(consumer, OUTCOME, partition)
    end = high
    for back in LOOKED_BACK:
        first = max(low, high - back)
        found = _last_between(consumer, partition, first, end)
        if found is not None:
            return found
        end = first
    return Told(partition, None, {})


def _last_between(consumer: Consumer, partition: int, first: int, end: int) -> Told | None:
    found = None
    for message in read_range(consumer, OUTCOME, partition, first, end):
        if dict(message.headers() or []).get("ce_type") == _CHECKPOINT:
            found = message
    if found is None:
        return None
    try:
        return Told(partition, found.timestamp()[1] / 1000, decode_checkpoint(found.value() or b"").lanes)
    except Undecodable:
        # Written by a release that this one does not understand: as good as none.
        return None
