"""The sender agents of a worker: started where mails wait, within each lane's share and a budget for all."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import structlog

from sluice.deliver.item import Item
from sluice.deliver.lane import LONGEST_PAUSE, Flow, Lane
from sluice.deliver.paths import Path, Paths
from sluice.deliver.sender import Sender
from sluice.deliver.shared_limits import Gate, Open
from sluice.deliver.step import Attempts
from sluice.ports.clock import Clock
from sluice.ports.mailer import Mailer

log = structlog.get_logger(__name__)
LEAST_PUT_OFF = 10.0
"""Seconds: what a mail that outstayed its patience waits in the wheel at least."""


class Senders:
    """Starts and ends sender agents; ``budget`` connections in all, ``patience`` seconds of waiting in memory."""

    def __init__(
        self,
        mailer: Mailer,
        paths: Paths,
        attempts: Attempts,
        clock: Clock,
        *,
        budget: int,
        patience: float,
        gate: Gate | None = None,
    ) -> None:
        self._mailer = mailer
        self._paths = paths
        self._attempts = attempts
        self._clock = clock
        self._budget = budget
        self._patience = patience
        self.gate: Gate = gate or Open()
        self._hungry: deque[tuple[Lane, Flow, Path]] = deque()
        self._tasks: dict[asyncio.Task[None], Lane] = {}
        self._closing = False
        self.attempting: dict[Item, asyncio.Task[None]] = {}
        """Mails whose attempt is under way, and the agent that makes it."""

    @property
    def connections(self) -> int:
        """Sender agents that run."""
        return len(self._tasks)

    def offer(self, lane: Lane, path: Path, item: Item) -> None:
        """Queue a mail in memory and see that somebody takes it."""
        flow = lane.flow(path.key)
        flow.push(item)
        self._staff(lane, flow, path)

    def _staff(self, lane: Lane, flow: Flow, path: Path) -> None:
        full = lane.senders >= lane.allowance.connections(self._clock.now())
        if self._closing or full or len(flow) <= flow.idle:
            return
        if len(self._tasks) >= self._budget:
            self._hungry.append((lane, flow, path))
            return
        sender = Sender(
            lane,
            flow,
            path,
            mailer=self._mailer,
            paths=self._paths,
            attempts=self._attempts,
            clock=self._clock,
            gate=self.gate,
            attempting=self._note,
            wanted=lambda: bool(self._hungry),
        )
        lane.senders += 1
        task = asyncio.create_task(sender.run(), name=f"sender-{lane.name}")
        self._tasks[task] = lane
        task.add_done_callback(lambda ended: self._left(ended, lane, flow, path))

    def _note(self, item: Item, begins: bool) -> None:
        if begins:
            self.attempting[item] = cast("asyncio.Task[None]", asyncio.current_task())
        else:
            del self.attempting[item]

    def _left(self, task: asyncio.Task[None], lane: Lane, flow: Flow, path: Path) -> None:
        lane.senders -= 1
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sender.failed", lane=lane.name, error=repr(error))
        self._staff(lane, flow, path)
        while self._hungry and len(self._tasks) < self._budget:
            self._staff(*self._hungry.popleft())

    def sweep(self, lanes: list[Lane]) -> None:
        """Put off mails that outstayed their patience in memory: a site that hangs must not hold them here."""
        now = self._clock.now()
        for lane in lanes:
            paused_until, _ = lane.allowance.paused(now)
            until = min(max(now + LEAST_PUT_OFF, paused_until), now + LONGEST_PAUSE)
            for flow in lane.flows.values():
                for item in flow.overdue(now - self._patience):
                    self._attempts.throttled(item, until, "connection")

    async def finish(self, items: set[Item]) -> None:
        """Wait until none of ``items`` is being attempted; cut off when this is cancelled."""
        try:
            while items & self.attempting.keys():
                await self._clock.sleep(0.01)
        except asyncio.CancelledError:
            # Their next owner takes them for in doubt and may send them: what is not done now must not be done later.
            for item in items & self.attempting.keys():
                self.attempting[item].cancel()
            raise

    async def leave_when_idle(self, lanes: set[Lane]) -> None:
        """As :meth:`leave`, once the attempts under way at the lanes have ended."""
        while any(self._tasks.get(task) in lanes for task in self.attempting.values()):
            await self._clock.sleep(0.05)
        await self.leave(lanes)

    async def leave(self, lanes: set[Lane]) -> None:
        """Close the connections of lanes that another worker is about to own: their limit is one for all workers."""
        ending = [task for task, lane in self._tasks.items() if lane in lanes]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def close(self) -> None:
        """End every agent; attempts still under way are cut off."""
        self._closing = True
        await self.leave(set(self._tasks.values()))
