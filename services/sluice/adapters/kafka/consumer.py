"""Faust's consumer, with an eye for urgency, with less work for every record, and without holes.

Faust forgets records at a rebalance in two ways, and goes on behind them:

- A fetch that began before the rebalance ends after it, with records of the new assignment. Faust throws them away and
  seeks to the commit; aiokafka's ``seek_to_committed`` stays where it is when nothing was committed yet.
- Stopping the fetcher abandons a fetch that waits, and it takes up to a second's records with it.

So here a fetch is never abandoned, what comes out of one that a rebalance overtook is read again, and a partition
without a commit is read from its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import faust
import structlog
import uvloop
from faust.transport.drivers.aiokafka import Consumer, ensure_aiokafka_TP
from faust.types import TP
from faust.types.tuples import Message

from sluice.adapters.kafka.fetching import fetch_by_urgency
from sluice.adapters.kafka.membership import Membership, WitnessedThread

log = structlog.get_logger(__name__)
LONGEST_FETCH_S = 0.5
"""Seconds that a fetch waits for records: as long may one from before a rebalance hold up the first one after it."""
SEEK_AGAIN_S = 0.5
TOGETHER = 8
"""Records of a partition that pass through Faust as one message, which costs it as much as one record did. Few enough
that urgent ones get their turn soon: deliver works a tenth of a millisecond and more for each."""


class UrgentThread(WitnessedThread):
    """Fetches each urgency apart."""

    urgency: tuple[str, ...] = ()

    async def on_start(self) -> None:
        """Before anything is fetched."""
        await super().on_start()
        await fetch_by_urgency(self._ensure_consumer(), self.urgency)


class DirectConsumer(Consumer):
    """Fetches urgent topics first, and hands records over by awaiting, as long as nothing is suspended.

    Faust races the hand-over of each record against the start of a rebalance, with ``wait_first``: two tasks and a
    wait, about a seventh of a worker's CPU. The race only matters to a hand-over that blocks. Ours do so only when a
    rebalance has begun, and what they then hand over late is dropped by its generation (see :class:`FaustIntake`).
    """

    urgency: tuple[str, ...] = ()
    """Topics, the most urgent first."""
    membership: Membership
    _fetch: asyncio.Task[Mapping[TP, Any]] | None = None
    """The fetch under way, also when nobody waits for it any more."""

    def _new_consumer_thread(self) -> UrgentThread:
        # Left to itself the thread runs on asyncio's own loop, whichever the process chose.
        thread = UrgentThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)
        thread.urgency = self.urgency
        thread.membership = self.membership
        return thread

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  Faust's own
        """Messages that carry some ``records`` of a partition each, at the place of the last one.

        None that a rebalance overtook: those are read again by whoever has them now.
        """
        overtaken = self._fetch is not None
        await self._flow()
        generation = self.app.consumer_generation_id

        def still_ours() -> bool:
            return self.flow_active and self.app.consumer_generation_id == generation

        records, _ = await self._wait_next_records(timeout)
        if self.should_stop or not records:
            return
        if overtaken or not still_ours():
            await self._read_again()
            return
        # Not by Faust's scheduler, which takes turns: what is urgent comes first.
        for tp, batch in records.items():
            for start in range(0, len(batch), TOGETHER):
                if not still_ours():
                    return
                together = batch[start : start + TOGETHER]
                message: Any = self._to_message(tp, together[-1])
                message.records = together
                yield tp, message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust would note every offset between two messages for its own commits, which are not used."""

    async def verify_all_partitions_active(self) -> None:
        """Not looked at: :class:`~sluice.runtime.stall.ReadingWatch` knows which records wait, and commits are ours.

        Faust's watch would look at them every seven seconds, and ends the worker when it meets a partition that is
        being sought, as all are right after a rebalance: aiokafka asserts that it has a position.
        """

    async def _read_again(self) -> None:
        """Go back to the commits once the flow stands on an assignment: nothing of it was handed over yet."""
        while not self.should_stop:
            await self._flow()
            generation = self.app.consumer_generation_id
            try:
                await self.perform_seek()
            except Exception as error:  # whatever it was, going on would leave a hole
                log.warning("consumer.seek_failed", error=str(error))
                await self.sleep(SEEK_AGAIN_S)
            else:
                if self.flow_active and generation == self.app.consumer_generation_id:
                    return

    async def _flow(self) -> None:
        """Wait until no rebalance is under way, or the service stops."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())

    async def perform_seek(self) -> None:
        """Go to what is committed, or to the beginning where nothing is."""
        await super().perform_seek()
        fresh = [tp for tp in self.assignment() if not self._read_offset.get(tp)]
        if fresh:
            await self._thread.seek_to_beginning(*map(ensure_aiokafka_TP, fresh))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  Faust's own
        """Records by partition; the fetch goes on when its caller is cancelled, and the next caller gets its result."""
        if self._fetch is None:
            partitions = None if active_partitions is None else set(active_partitions)
            self._fetch = asyncio.create_task(super()._getmany(partitions, min(timeout, LONGEST_FETCH_S)))
        fetch = self._fetch
        try:
            return await asyncio.shield(fetch)
        finally:
            if fetch.done():
                self._fetch = None

    async def on_stop(self) -> None:
        """Nobody will ask for what a fetch brings now."""
        if self._fetch is not None:
            self._fetch.cancel()
        await super().on_stop()

    async def sleep(self, n: Any) -> None:
        """As :meth:`mode.Service.sleep`; a turn for others, which Faust takes before every poll, is one turn only."""
        if n:
            await super().sleep(n)
        else:
            await asyncio.sleep(0)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109  mode's signature
        """As :meth:`mode.Service.wait_first`; directly for the pair that the drainer passes for each record."""
        if len(coros) == 2 and timeout is None and self.flow_active and not self.suspend_flow.is_set():
            hand_over, suspended = coros
            if isinstance(suspended, Coroutine):
                suspended.close()
                return await hand_over
        return await super().wait_first(*coros, timeout=timeout)


def use_direct_consumer(app: faust.App, urgency: tuple[str, ...]) -> Membership:
    """Have ``app`` make its consumer of this class; call it before the application starts."""
    transport: Any = app.transport
    membership = Membership(app.conf.broker_session_timeout, instance_id=app.conf.consumer_group_instance_id or None)
    transport.Consumer = type("UrgencyConsumer", (DirectConsumer,), {"urgency": urgency, "membership": membership})
    return membership
