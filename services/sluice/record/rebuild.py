"""Recording a log from where a group stands to where the log ends now, by the same batches as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from sluice.ports.bus import Position, Record
from sluice.ports.clock import Clock
from sluice.ports.outcomes import BatchSource, OutcomeStore
from sluice.record.service import Recorder

LOOK_EVERY_S = 0.5


class Rebuilt(msgspec.Struct, frozen=True):
    """How far it is. ``left`` records of the log are to be read; ``unreadable`` were left out; ``waiting`` says that
    ClickHouse or Kafka does not answer."""

    outcomes: int
    batches: int
    unreadable: int
    left: int
    waiting: bool


class NowhereElse:
    """A bus that stores nothing: what cannot be decoded is in ``mail.dead`` since it was recorded first."""

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """See :class:`sluice.ports.bus.Bus`."""
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        done.set_result(Position(record.topic, 0, 0))
        return done

    def partitions(self, topic: str) -> int:
        """See :class:`sluice.ports.bus.Bus`."""
        return 1


async def rebuild(
    *,
    source: BatchSource,
    store: OutcomeStore,
    clock: Clock,
    ends: Mapping[int, int],
    standing: Callable[[], Mapping[int, int]],
    told: Callable[[Rebuilt], None] = lambda _: None,
) -> Rebuilt:
    """Record until every partition is finished up to ``ends``, the offset after the last record to record.

    ``standing`` says how far the group has finished, by partition; it is asked in a thread, twice a second. A crash in
    between leaves nothing to repair: whoever goes on with the group stores the batch under way again, under its token.
    Waits for as long as ClickHouse or Kafka is away.
    """
    recorder = Recorder(source=source, store=store, bus=NowhereElse(), clock=clock)
    stop = asyncio.Event()
    running = asyncio.create_task(recorder.run(stop))
    try:
        while True:
            finished = await asyncio.to_thread(standing)
            left = sum(max(0, end - finished.get(partition, 0)) for partition, end in ends.items())
            made = recorder.progress
            now = Rebuilt(made.outcomes, made.batches, made.dead, left, made.waiting_since is not None)
            told(now)
            if left == 0:
                return now
            done, _ = await asyncio.wait({running}, timeout=LOOK_EVERY_S)
            if done:
                running.result()
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
