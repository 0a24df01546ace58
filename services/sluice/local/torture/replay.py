"""Storing batches a second time that ``record`` has stored: what crashes after an insert lead to, many at once."""

from __future__ import annotations

import asyncio
import json
import random
import struct

from sluice.adapters.kafka.ranges import RangeReader, parse_ranges
from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.topics import OUTCOME
from sluice.local.stack import LocalStack
from sluice.ports.outcomes import Batch
from sluice.record.agent import GROUP
from sluice.record.step import sort_out
from sluice.runtime import wiring

COMMITS = "__consumer_offsets"
"""Kafka's own topic of commits. Each batch stands there before it is inserted, as metadata of the group's offsets."""
WITHIN_S = 30.0


async def replay(stack: LocalStack, share: float, seed: int) -> tuple[int, int]:
    """Store ``share`` of all batches again, drawn by ``seed`` and in another order; returns how many, of how many.

    Raises what ClickHouse and Kafka raise.
    """
    known = await asyncio.to_thread(_batches, stack)
    chosen = random.Random(seed).sample(known, round(len(known) * share))  # noqa: S311  nothing secret
    options = {"group.id": "sluice-torture-replay", "enable.auto.commit": False}
    source = RangeReader({**wiring.kafka_options(stack.settings), **options}, OUTCOME)
    store = wiring.outcome_store(stack.settings)
    try:
        for ranges in chosen:
            batch = Batch(OUTCOME, await asyncio.to_thread(source.read, parse_ranges(ranges), WITHIN_S))
            sorted_out = sort_out(batch)
            await store.store(batch.token, sorted_out.outcomes, sorted_out.addresses)
    finally:
        # The proxies that it talks through live in this loop.
        await asyncio.to_thread(source.close)
    return len(chosen), len(known)


def _batches(stack: LocalStack) -> list[str]:
    """The ranges of every batch that ``record`` has begun, as far as Kafka still has its commits."""
    consumer = reader(wiring.kafka_options(stack.settings))
    found: set[str] = set()
    try:
        for partition in consumer.list_topics(COMMITS, timeout=20).topics[COMMITS].partitions:
            low, high = ends(consumer, COMMITS, partition)
            for message in read_range(consumer, COMMITS, partition, low, high):
                metadata = metadata_of(_bytes(message.key()), _bytes(message.value()))
                if metadata and (ranges := json.loads(metadata).get("ranges")):
                    found.add(ranges)
    finally:
        consumer.close()
    return sorted(found)


def metadata_of(key: bytes, value: bytes) -> str:
    """Of a commit of record's group, empty for all else: OffsetCommitKey and OffsetCommitValue of Kafka's schemas."""
    if len(key) < 4 or len(value) < 12:
        return ""
    kind, length = struct.unpack_from(">hh", key)
    if kind > 1 or key[4 : 4 + length] != GROUP.encode():
        return ""
    # Version, offset, and from version 3 on the leader's epoch come before; from 4 on lengths are varints, plus one.
    # librdkafka ends metadata with a NUL.
    (version,) = struct.unpack_from(">h", value)
    at = 14 if version >= 3 else 10
    if version < 4:
        (length,) = struct.unpack_from(">h", value, at)
        return value[at + 2 : at + 2 + length].decode().rstrip("\0")
    length, shift = 0, 0
    while True:
        length |= (value[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if value[at - 1] < 0x80:
            return value[at : at + length - 1].decode().rstrip("\0")


def _bytes(found: object) -> bytes:
    return found if isinstance(found, bytes) else b""
