"""Faust agents that feed a handler, with an ordered acker instead of Faust's own acknowledgement.

Faust commits past unfinished records when acks come out of order (faust-streaming/faust#606), acks what raised, and
drops acks at each rebalance. So agents iterate without acking, :class:`Window` decides what may be committed, and the
prefix is committed here, through the same group membership.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import faust
import msgspec
import structlog
from faust.types import TP

from sluice.adapters.kafka.consumer import use_direct_consumer
from sluice.adapters.kafka.standing import Standing
from sluice.domain.window import Range, Window
from sluice.ports.intake import Handler, Taken
from sluice.ports.metrics import Figure

log = structlog.get_logger(__name__)


TURN_S = 0.002
"""Seconds of taking records of one topic after which other work of the process gets its turn."""


class Bounds(msgspec.Struct, frozen=True):
    """How much of one topic's partition may be unfinished before its fetching pauses, and how often to commit."""

    records: int = 2_000
    bytes: int = 48 * 1024 * 1024
    commit_s: float = 0.5


class _Lease:
    """One topic's partition while it is ours; a later assignment gets a new one, so late calls touch nothing."""

    def __init__(self, tp: TP, finished: list[Range]) -> None:
        self.tp = tp
        self.window = Window(finished)
        self.bytes = 0
        self.next = -1
        self.committed: int | None = None
        self.paused = False
        self.revoked = False

    def done(self, record: Taken) -> None:
        self.window.finish(record.offset)
        self.bytes -= record.size


class FaustIntake:
    """Reads co-partitioned ``topics``, the most urgent named first, as one member of the application's group."""

    def __init__(
        self, app: faust.App, topics: tuple[str, ...], handler: Handler, bounds: Bounds, *, drain_s: float = 30.0
    ) -> None:
        self._app = app
        self._topics = topics
        self._handler = handler
        self._bounds = bounds
        self._drain_s = drain_s
        self._leases: dict[TP, _Lease] = {}
        self._opening: dict[int, list[Taken]] = {}
        self._openers: set[asyncio.Task[None]] = set()
        self._epoch = 0
        self._leaving = False
        self._failed: BaseException | None = None
        self._commit_task: asyncio.Task[None] | None = None
        self._standing = Standing()
        self.moved_at = time.monotonic()
        """When a record was last finished, or nothing was unfinished (monotonic seconds): a watchdog reads it."""
        self.owed_at: float | None = None
        """Since when commits have not been stored that are due (monotonic seconds), None when none is."""
        self.joined = asyncio.Event()
        """Set once the group assigned something, or nothing, to this member."""
        self._membership = use_direct_consumer(app, topics)
        for topic in topics:
            self._declare_agent(topic)
        signals: Any = app  # the signals' declared type asks for a parameter that they do not pass
        signals.on_partitions_assigned.connect(self._on_assigned)
        signals.on_partitions_revoked.connect(self._on_revoked)

    def _declare_agent(self, name: str) -> None:
        topic = self._app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        # It yields nothing: Faust would look at, and log, what it yields for every record.
        async def feed(stream: Any) -> None:
            records, waiting = stream.noack(), stream.channel.queue
            async for _ in records:
                # Faust gives a stream one message per turn of the loop, and a busy loop has few turns.
                until = time.monotonic() + TURN_S
                self._take_together(records.current_event.message)
                while not waiting.empty() and self._app.flow_control.is_active() and time.monotonic() < until:
                    self._take_together(waiting.get_nowait().message)
                if self._failed is not None:
                    raise self._failed

        self._app.agent(topic, name=f"feed-{name}", concurrency=1)(feed)

    async def start(self) -> None:
        """Start the Faust application in the running loop and wait until the group has admitted it."""
        await self._app.start()
        self._commit_task = asyncio.create_task(self._commit_forever(), name="commit")
        self._commit_task.add_done_callback(self._commits_ended)

    async def stop(self) -> None:
        """Drain, commit the finished prefix, leave the group."""
        self._leaving = True
        if self._commit_task is not None:
            self._commit_task.cancel()
        await self._release({lease.tp.partition for lease in self._leases.values()})
        await self._app.stop()

    @property
    def _consumer(self) -> Any:
        """Faust's consumer; what is used of it is not in its declared interface."""
        return self._app.consumer

    @property
    def crashed(self) -> BaseException | None:
        """Why the consumer cannot go on, or None. The process should stop then, leaving everything unacked."""
        crash = self._app._crash_reason if self._app.crashed else None  # noqa: SLF001  no public reader
        return self._membership.taken or self._failed or crash

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        return sum(lease.window.unfinished for lease in self._leases.values())

    @property
    def partitions(self) -> set[int]:
        """Partition numbers that are ours."""
        return {tp.partition for tp in self._leases}

    @property
    def certain(self) -> bool:
        """Whether nobody else can have our partitions: the broker counted us in less than a session ago."""
        return self._membership.certain

    @property
    def reading(self) -> dict[tuple[str, int], int]:
        """By topic and partition of what is ours and not held back: the offset to read next, -1 before the first."""
        return {(lease.tp.topic, lease.tp.partition): lease.next for lease in self._leases.values() if not lease.paused}

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        return self._standing.figures(self._leases.values(), self._end, self.moved_at)

    def _end(self, tp: TP) -> int | None:
        try:
            end: int | None = self._consumer.highwater(tp)
        except Exception:  # between two assignments it is nobody's, which is told in several ways
            return None
        return end

    def finished_beyond(self, partition: int) -> dict[str, list[Range]]:
        """See :class:`sluice.ports.intake.Intake`."""
        return {
            lease.tp.topic: ranges
            for lease in self._leases.values()
            if lease.tp.partition == partition and (ranges := lease.window.finished_beyond())
        }

    def _take_together(self, message: Any) -> None:
        # A message that waited out a rebalance inside Faust belongs to whoever owns its partition now. Taken here it
        # would also be ahead of what is read again from the commit, which would then look finished.
        if self._leaving or message.generation_id != self._app.consumer_generation_id:
            return
        for found in message.records:
            self._take(
                Taken(
                    found.topic, found.partition, found.offset, found.key, found.value,
                    [(name, value or b"") for name, value in found.headers], found.timestamp / 1000,
                )
            )  # fmt: skip

    def _take(self, record: Taken) -> None:
        partition = record.partition
        if (waiting := self._opening.get(partition)) is not None:
            waiting.append(record)
            if len(waiting) >= self._bounds.records:
                self._consumer.on_buffer_full(TP(record.topic, partition))
        elif TP(record.topic, partition) in self._leases:
            self._admit(record)
        else:
            self._begin_to_open(partition).append(record)

    def _begin_to_open(self, partition: int) -> list[Taken]:
        """Have the handler load what it needs; returns where records wait meanwhile."""
        waiting: list[Taken] = []
        self._opening[partition] = waiting
        task = asyncio.create_task(self._open(partition, self._epoch))
        self._openers.add(task)
        task.add_done_callback(self._openers.discard)
        return waiting

    async def _open(self, partition: int, epoch: int) -> None:
        try:
            finished = await self._handler.assigned(partition)
        except Exception as error:
            log.exception("partition.open_failed", partition=partition)
            if epoch == self._epoch:
                self._failed = error
            return
        if epoch != self._epoch:
            return
        for topic in self._topics:
            tp = TP(topic, partition)
            self._leases[tp] = _Lease(tp, finished.get(topic, []))
            self._consumer.on_buffer_drop(tp)
        for record in self._opening.pop(partition, []):
            self._admit(record)

    def _admit(self, record: Taken) -> None:
        lease = self._leases[TP(record.topic, record.partition)]
        lease.next = record.offset + 1
        if not lease.window.take(record.offset):
            return
        lease.bytes += record.size
        self._standing.took(record)

        def done() -> None:
            lease.done(record)
            self.moved_at = time.monotonic()

        self._handler.take(record, done)
        if self._over(lease, 1.0):
            self._hold(lease)

    def _hold(self, lease: _Lease) -> None:
        """Fetch nothing more of the partition, but take what was fetched.

        Not by ``pause_partitions``: Faust then drops the rest of the batch that it is handing out, without a trace.
        """
        lease.paused = True
        self._consumer.on_buffer_full(lease.tp)

    def _let_go(self, lease: _Lease) -> None:
        lease.paused = False
        self._consumer.on_buffer_drop(lease.tp)

    def _over(self, lease: _Lease, share: float) -> bool:
        bounds = self._bounds
        return lease.window.unfinished > bounds.records * share or lease.bytes > bounds.bytes * share

    async def _commit_forever(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            for lease in self._leases.values():
                if lease.paused and not self._over(lease, 0.5):
                    self._let_go(lease)
            if time.monotonic() - last >= self._bounds.commit_s:
                last = time.monotonic()
                await self._commit(list(self._leases.values()))

    def _commits_ended(self, task: asyncio.Task[None]) -> None:
        """Without commits everything would be read again after the next restart, and the restart is due."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("commits.ended", error=repr(error))
            self._failed = error

    async def _commit(self, leases: list[_Lease]) -> None:
        moved: dict[TP, int] = {}
        for lease in leases:
            offset = lease.window.committable
            if offset is not None and offset != lease.committed and not lease.revoked:
                moved[lease.tp] = offset
        if not moved:
            self.owed_at = None
        elif self.owed_at is None:
            self.owed_at = time.monotonic()
        if moved and await self._consumer._commit(moved):  # noqa: SLF001  the ordered prefix, not Faust's acks
            self.owed_at = None
            for lease in leases:
                if (stored := moved.get(lease.tp)) is not None:
                    lease.committed = stored
                    lease.window.committed(stored)
            self.moved_at = time.monotonic()
        elif not self.unfinished:
            self.moved_at = time.monotonic()

    async def _on_assigned(self, sender: Any, assigned: Any, *_: Any, **__: Any) -> None:
        partitions = {tp.partition for tp in assigned if tp.topic in self._topics}
        log.info("partitions.assigned", partitions=sorted(partitions))
        for partition in sorted(partitions - self.partitions - self._opening.keys()):
            self._begin_to_open(partition)
        self.joined.set()

    async def _on_revoked(self, sender: Any, revoked: Any, *_: Any, **__: Any) -> None:
        partitions = {tp.partition for tp in revoked}
        if partitions:
            log.info("partitions.revoked", partitions=sorted(partitions), unfinished=self.unfinished)
        await self._release(partitions)

    async def _release(self, partitions: set[int]) -> None:
        """Give partitions up: Faust revokes all at once, so opening ones are dropped whole."""
        self._epoch += 1
        self._opening.clear()
        if not partitions:
            return
        try:
            await asyncio.wait_for(self._handler.revoked(partitions), self._drain_s)
        except TimeoutError:
            log.warning("partitions.drain_timeout", unfinished=self.unfinished, seconds=self._drain_s)
        leases = [lease for lease in self._leases.values() if lease.tp.partition in partitions]
        await self._commit(leases)
        for lease in leases:
            lease.revoked = True
            self._leases.pop(lease.tp, None)
