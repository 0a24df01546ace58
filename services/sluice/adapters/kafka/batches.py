"""Reading a topic in batches that are the same again after a crash.

Before a batch is handed out, its ranges are committed as the *metadata* of the group's own offsets, the offsets still
at the batch's beginning; when it is finished, the offsets move to its end. So whoever owns a partition next finds both
where to begin and which batch was under way, and reads that batch again from the log, the slices of partitions that
now belong to others included. All of them store it under the same token, and the store keeps it once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sluice.adapters.kafka.ranges import RangeReader, parse_ranges, partition_of, passing, taken
from sluice.ports.intake import Taken
from sluice.ports.outcomes import Batch, Slice, SourceAway

log = structlog.get_logger(__name__)
T = TypeVar("T")

_METADATA_BYTES = 4000
"""Brokers refuse more than offset.metadata.max.bytes, 4096 by default."""
_IDLE = 0.25
_QUIET = 0.2
"""Seconds without a record after which a batch waits no longer than a third of its time."""
_TIMEOUT = 10.0


class KafkaBatches:
    """The batch source over a consumer group. Methods must not overlap.

    ``max_rows`` bounds a batch, ``max_age`` (seconds) how long a record waits for others to be stored with; a third of
    that when no others come. What a batch costs the store depends little on how much is in it.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        group: str,
        *,
        max_rows: int = 10_000,
        max_age: float = 1.5,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._topic = topic
        self._max_rows = max_rows
        self._max_age = max_age
        common: dict[str, object] = {
            "bootstrap.servers": servers,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # Batches are made of what comes in a second: an answer for every few records only makes work.
            "fetch.min.bytes": 512 * 1024,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 32_768,
            **(settings or {}),
        }
        self._reader = RangeReader({**common, "group.id": f"{group}.reader"}, topic)
        self._buffers: dict[int, list[Taken]] = {}
        self._next: dict[int, int | None] = {}
        """By settled partition, the first offset not yet handed out; None while the group has none."""
        self._unsettled: set[int] = set()
        self._unfinished: set[str] = set()
        """Ranges of batches that somebody left unfinished, to be read again before anything else."""
        self._out: dict[int, int] = {}
        """Partitions of the batch that is handed out, as long as they are owned; and how many records of each."""
        self._behind = 0
        """Records not handed out, as of the last look."""
        self._oldest: float | None = None
        self._newest = 0.0
        self._paused = False
        self._consumer = Consumer({**common, "group.id": group, "partition.assignment.strategy": "cooperative-sticky"})
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    async def take(self) -> Batch | None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        try:
            return await asyncio.to_thread(self._looking, self._take)
        except KafkaException as error:
            raise SourceAway(str(error.args[0])) from error

    async def finish(self, batch: Batch) -> None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        await asyncio.to_thread(self._finish, batch)

    async def keep(self) -> None:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        await asyncio.to_thread(self._looking, self._keep)

    def holds(self, batch: Batch) -> bool:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        return any(part.partition in self._out for part in batch.slices)

    def lag(self) -> int:
        """See :class:`sluice.ports.outcomes.BatchSource`."""
        return sum(self._out.values()) + self._behind

    async def close(self) -> None:
        """Leave the group; what is handed out and not finished goes to others."""
        await asyncio.to_thread(self._consumer.close)
        await asyncio.to_thread(self._reader.close)

    def _looking(self, work: Callable[[], T]) -> T:
        """Do ``work``, then see how many records are left.

        Each question gives the interpreter's lock away: asked in the loop, beside a thread that decodes a batch, forty
        of them held it up for most of a second.
        """
        result = work()
        self._behind = sum(map(self._left, list(self._next.items())))
        return result

    def _left(self, settled: tuple[int, int | None]) -> int:
        partition, following = settled
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return max(0, high - max(low if following is None else following, 0))

    def _take(self) -> Batch | None:
        self._out = {}
        self._resume()
        self._fill()
        self._settle()
        if self._unfinished:
            return self._again(min(self._unfinished))
        if not self._due():
            return None
        batch = self._cut()
        if batch is not None:
            self._store_ranges(batch)
            self._hand_out(batch)
        return batch

    def _fill(self) -> None:
        """Read until a batch is due, or for a moment when nothing comes."""
        deadline = time.monotonic() + max(_IDLE, self._max_age)
        while not self._due() and not self._unsettled and (left := deadline - time.monotonic()) > 0:
            if self._oldest is not None:
                left = min(left, self._oldest + self._max_age - time.monotonic())
            wanted = max(1, self._max_rows - self._buffered())
            self._accept(self._consumer.consume(wanted, timeout=max(0.0, min(left, 0.1))))

    def _accept(self, messages: Sequence[Message]) -> None:
        """Buffer what came, then raise what went wrong and does not pass."""
        failure: KafkaError | None = None
        now = time.monotonic()
        for message in messages:
            error = message.error()
            if error is not None:
                failure = failure or (None if passing(error) else error)
                continue
            partition = partition_of(message)
            entry = taken(message)
            following = self._next.get(partition)
            if following is not None and entry.offset < following:
                continue
            self._buffers.setdefault(partition, []).append(entry)
            self._newest = now
        if self._oldest is None and self._buffered():
            self._oldest = now
        if failure is not None:
            raise KafkaException(failure)

    def _buffered(self) -> int:
        return sum(map(len, self._buffers.values()))

    def _due(self) -> bool:
        if self._oldest is None:
            return False
        now = time.monotonic()
        age, quiet = now - self._oldest, now - self._newest >= _QUIET
        return self._buffered() >= self._max_rows or age >= (self._max_age / 3 if quiet else self._max_age)

    def _settle(self) -> None:
        """For partitions just assigned, learn where the group is and which batch was under way."""
        if not self._unsettled:
            return
        wanted = [TopicPartition(self._topic, partition) for partition in sorted(self._unsettled)]
        for found in self._consumer.committed(wanted, timeout=_TIMEOUT):
            if found.error is not None:
                raise KafkaException(found.error)
            ranges = _ranges_in(found.metadata)
            self._next[found.partition] = found.offset if found.offset >= 0 else None
            if any(part.partition == found.partition and part.first == found.offset for part in parse_ranges(ranges)):
                self._unfinished.add(ranges)
            self._unsettled.discard(found.partition)

    def _again(self, ranges: str) -> Batch:
        """Build a batch again that was left unfinished. Its ranges are stored already."""
        parts = parse_ranges(ranges)
        batch = Batch(self._topic, self._reader.read(parts, timeout=_TIMEOUT))
        self._unfinished.discard(ranges)
        log.info("batch of an earlier reader taken up", batch=batch.token)
        self._hand_out(batch)
        return batch

    def _cut(self) -> Batch | None:
        """All that is buffered of settled partitions, as far as the ranges fit into an offset's metadata."""
        slices: list[Slice] = []
        for partition in sorted(self._next):
            records = self._buffers.get(partition)
            if not records:
                continue
            following = self._next[partition]
            first = records[0].offset if following is None else following
            slices.append(Slice(partition, first, records[-1].offset, records))
            if len(Batch(self._topic, slices).ranges) > _METADATA_BYTES - 100:
                slices.pop()
                break
        return Batch(self._topic, slices) if slices else None

    def _store_ranges(self, batch: Batch) -> None:
        metadata = json.dumps({"v": 1, "ranges": batch.ranges})
        self._commit([TopicPartition(self._topic, p.partition, p.first, metadata) for p in batch.slices])

    def _hand_out(self, batch: Batch) -> None:
        """Take the batch out of the buffers and note which of its partitions are owned and not beyond it."""
        for part in batch.slices:
            following = self._next.get(part.partition)
            if part.partition not in self._next or (following is not None and following > part.first):
                continue
            self._out[part.partition] = len(part.records)
            self._next[part.partition] = part.last + 1
            kept = [entry for entry in self._buffers.get(part.partition, ()) if entry.offset > part.last]
            self._buffers[part.partition] = kept
        self._oldest = time.monotonic() if self._buffered() else None

    def _finish(self, batch: Batch) -> None:
        owned = [part for part in batch.slices if part.partition in self._out]
        self._out = {}
        if not owned:
            return
        try:
            self._commit([TopicPartition(self._topic, part.partition, part.last + 1, "") for part in owned])
        except KafkaException as error:
            # The next batch's ranges move the offset as well; if the partitions are gone, their owner stores this batch
            # once more under its token.
            log.warning("finished batch not committed", batch=batch.token, reason=str(error.args[0]))

    def _commit(self, offsets: list[TopicPartition]) -> None:
        for done in self._consumer.commit(offsets=offsets, asynchronous=False) or ():
            if done.error is not None:
                raise KafkaException(done.error)

    def _keep(self) -> None:
        owned = self._consumer.assignment()
        if owned:
            self._consumer.pause(owned)
        self._paused = True
        message = self._consumer.poll(0)
        if message is not None:
            self._accept([message])

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        log.info("partitions assigned", topic=self._topic, partitions=[entry.partition for entry in partitions])
        self._unsettled.update(entry.partition for entry in partitions)
        consumer.incremental_assign(list(partitions))

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        log.info("partitions revoked", topic=self._topic, partitions=[entry.partition for entry in partitions])
        for entry in partitions:
            self._unsettled.discard(entry.partition)
            self._buffers.pop(entry.partition, None)
            self._next.pop(entry.partition, None)
            self._out.pop(entry.partition, None)
        if not self._buffered():
            self._oldest = None
        mine = set(self._next)
        self._unfinished = {r for r in self._unfinished if any(part.partition in mine for part in parse_ranges(r))}
        consumer.incremental_unassign(list(partitions))


def _ranges_in(metadata: str | None) -> str:
    """The ranges in an offset's metadata; empty when it has none, or when another program wrote it."""
    try:
        ranges = str(json.loads(metadata or "")["ranges"])
        parse_ranges(ranges)
    except (ValueError, KeyError, TypeError):
        return ""
    return ranges
