"""Sender agents: each owns one connection and takes its lane's mails one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import structlog

from sluice.deliver.item import Item
from sluice.deliver.lane import Flow, Lane
from sluice.deliver.paths import Path, Paths
from sluice.deliver.step import Attempts, HandedBackError
from sluice.domain.conclusion import Way
from sluice.domain.smtp import Broken, Replied
from sluice.ports.clock import Clock
from sluice.ports.mailer import Connection, Mailer

log = structlog.get_logger(__name__)
LEAST_PUT_OFF = 10.0
"""Seconds: what a mail that outstayed its patience waits in the wheel at least."""


class Senders:
    """Starts sender agents where mails wait, within each lane's share and ``budget`` connections in all."""

    def __init__(
        self, mailer: Mailer, paths: Paths, attempts: Attempts, clock: Clock, *, budget: int, patience: float
    ) -> None:
        self._mailer = mailer
        self._paths = paths
        self._attempts = attempts
        self._clock = clock
        self._budget = budget
        self._patience = patience
        self._hungry: deque[tuple[Lane, Flow, Path]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
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
        if self._closing or len(flow) <= flow.idle or lane.senders >= lane.share.connections:
            return
        if len(self._tasks) >= self._budget:
            self._hungry.append((lane, flow, path))
            return
        lane.senders += 1
        task = asyncio.create_task(self._run(lane, flow, path), name=f"sender-{lane.name}")
        self._tasks.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sender.failed", error=repr(error))
        while self._hungry and len(self._tasks) < self._budget:
            self._staff(*self._hungry.popleft())

    async def _run(self, lane: Lane, flow: Flow, path: Path) -> None:
        connection: Connection | None = None
        used = 0
        try:
            while await self._wait_for_mail(flow, lane, connected=connection is not None):
                if (pause := lane.turn(self._clock.now())) > 0:
                    await self._clock.sleep(min(pause, 1.0))
                    continue
                item = flow.pop()
                if item is None:
                    continue
                if item.mail.envelope.expires_at <= self._clock.now():
                    self._attempts.expire(item)
                    continue
                if connection is not None and (not connection.usable or used >= lane.site.mails_per_connection):
                    await connection.quit()
                    connection, used = None, 0
                if connection is None:
                    answer = await self._dial(lane, path, item)
                    if isinstance(answer, Replied | Broken):
                        self._unreachable(item, answer, lane)
                        return
                    connection = answer
                used += 1
                if not await self._attempt(item, connection, lane, fresh=used == 1):
                    flow.unpop(item)
        finally:
            lane.senders -= 1
            self._staff(lane, flow, path)
            if connection is not None:
                await connection.quit()

    async def _attempt(self, item: Item, connection: Connection, lane: Lane, *, fresh: bool) -> bool:
        self.attempting[item] = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            return await self._attempts.make(item, connection, lane, fresh=fresh)
        except HandedBackError:
            log.info("attempt.handed_back", lane=lane.name)
            return True
        finally:
            del self.attempting[item]

    async def _wait_for_mail(self, flow: Flow, lane: Lane, *, connected: bool) -> bool:
        """Whether to go on: there is mail, or there is within the time that an idle connection is kept."""
        if len(flow):
            return True
        if not connected or self._hungry:
            return False
        flow.arrived.clear()
        flow.idle += 1
        try:
            await asyncio.wait_for(flow.arrived.wait(), lane.site.idle)
        except TimeoutError:
            return bool(len(flow))
        finally:
            flow.idle -= 1
        return True

    async def _dial(self, lane: Lane, path: Path, item: Item) -> Connection | Replied | Broken:
        """A connection to the first host that greets us, or why none did."""
        hops = await self._paths.hops(path, lane.site, f"{item.mail.envelope.message_id}/{item.attempts}")
        if isinstance(hops, Broken):
            return hops
        last: Replied | Broken = Broken("connect", "refused")
        for hop in hops:
            answer = await self._mailer.connect(hop)
            if not isinstance(answer, Replied | Broken):
                lane.connected()
                return answer
            last = answer
        return last

    def _unreachable(self, item: Item, answer: Replied | Broken, lane: Lane) -> None:
        now = self._clock.now()
        if not isinstance(answer, Broken) or answer.phase != "resolve":
            lane.connect_failed(now)
        item.waits = item.waits_at(now)
        item.attempts += 1
        self._attempts.conclude(item, answer, lane, Way(), now)

    def sweep(self, lanes: list[Lane]) -> None:
        """Put off mails that outstayed their patience in memory: a site that hangs must not hold them here."""
        now = self._clock.now()
        for lane in lanes:
            for flow in lane.flows.values():
                for item in flow.overdue(now - self._patience):
                    until = max(now + LEAST_PUT_OFF, lane.paused_until)
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

    async def close(self) -> None:
        """End every agent; attempts still under way are cut off."""
        self._closing = True
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
