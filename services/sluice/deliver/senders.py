"""The sender agents of a worker: started where mails wait, within each lane's share and a budget for all."""

from __future__ import annotations

import asyncio
import math
from typing import cast

import structlog

from sluice.deliver.departures import Departures
from sluice.deliver.desk import Desk
from sluice.deliver.flow import Flow
from sluice.deliver.item import Item
from sluice.deliver.lane import LONGEST_PAUSE, Lane
from sluice.deliver.paths import Path, Paths
from sluice.deliver.sender import Sender
from sluice.deliver.shared_limits import Gate, Open
from sluice.deliver.slots import Seat, Slots
from sluice.deliver.step import Attempts
from sluice.domain.egress import Egress
from sluice.domain.priorities import Priorities
from sluice.domain.shaping import WeightedChooser
from sluice.ports.clock import Clock
from sluice.ports.mailer import Mailer

log = structlog.get_logger(__name__)
LEAST_PUT_OFF = 10.0
"""Seconds: what a mail that outstayed its patience waits in the wheel at least."""


class Senders:
    """Starts and ends sender agents; ``budget`` connections in all, ``patience`` seconds of waiting in memory.

    ``priorities`` tell how the budget is shared while it is used up.
    """

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
        departures: Departures,
        priorities: Priorities = Priorities(),  # noqa: B008  frozen
    ) -> None:
        self._mailer = mailer
        self._paths = paths
        self._attempts = attempts
        self._clock = clock
        self.priorities = priorities
        self.departures = departures
        self._slots = Slots(lambda: budget, priorities, WeightedChooser(priorities.weights))
        self._per_egress: dict[str, Slots] = {}
        self._desk = Desk(clock, self._start)
        self._patience = patience
        self.gate: Gate = gate or Open()
        self._tasks: dict[asyncio.Task[None], Lane] = {}
        self.attempting: dict[Item, asyncio.Task[None]] = {}
        """Mails whose attempt is under way, and the agent that makes it."""
        self.dialling = 0
        """Agents that look for a connection, each with a mail in hand."""

    @property
    def connections(self) -> int:
        """Sender agents that run."""
        return len(self._tasks)

    def offer(self, lane: Lane, path: Path, item: Item) -> None:
        """Queue a mail in memory and see that somebody takes it."""
        item.egress = item.egress or self.departures.choose(item.mail, lane)
        flow = lane.flow(item.egress, path, *self._slots_through(item.egress), self._slots)
        flow.push(item)
        self._desk.staff(flow)

    def _slots_through(self, egress: Egress) -> tuple[Slots, ...]:
        """What a single egress may have here, over all sites."""
        most = egress.connections
        if most is None:
            return ()
        if egress.name not in self._per_egress:
            chooser = WeightedChooser(self.priorities.weights)
            self._per_egress[egress.name] = Slots(lambda: most, self.priorities, chooser)
        return (self._per_egress[egress.name],)

    def _rehome(self, flow: Flow) -> bool:
        """When a trigger keeps the lane's mail from the flow's egress, have the flow's leave from elsewhere."""
        if not self.departures.moved(flow.egress, flow.lane):
            return False
        for item in list(flow.overdue(math.inf)):
            item.egress = None
            self.offer(flow.lane, flow.path, item)
        return True

    def _start(self, seat: Seat) -> None:
        lane = seat.flow.lane
        sender = Sender(
            lane,
            seat,
            mailer=self._mailer,
            paths=self._paths,
            attempts=self._attempts,
            clock=self._clock,
            gate=self.gate,
            attempting=self._note,
            desk=self._desk,
            rehome=self._rehome,
            dialling=self._dials,
        )
        task = asyncio.create_task(sender.run(), name=f"sender-{lane.name}")
        self._tasks[task] = lane
        task.add_done_callback(lambda ended: self._left(ended, lane, seat))

    def _note(self, item: Item, begins: bool) -> None:
        if begins:
            self.attempting[item] = cast("asyncio.Task[None]", asyncio.current_task())
        else:
            del self.attempting[item]

    def _dials(self, more: int) -> None:
        self.dialling += more

    def _left(self, task: asyncio.Task[None], lane: Lane, seat: Seat) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sender.failed", lane=lane.name, error=repr(error))
        self._desk.left(seat)

    def sweep(self, lanes: list[Lane]) -> None:
        """Put off mails that outstayed their patience in memory: a site that hangs must not hold them here.

        And close connections that have been idle for as long as the site allows.
        """
        now = self._clock.now()
        for lane in lanes:
            self._desk.dismiss(lane.slots, now - lane.site.idle)
            paused_until, _ = lane.allowance.paused(now)
            until = min(max(now + LEAST_PUT_OFF, paused_until), now + LONGEST_PAUSE)
            lane.forget_flows(now)
            for flow in list(lane.flows.values()):
                self._rehome(flow)
                for item in flow.overdue(now - self._patience):
                    self._attempts.throttled(item, until, "connection")
                # A lane that recovers may have more connections by now, and nobody else would notice.
                self._desk.staff(flow)

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
        self._desk.close()
        await self.leave(set(self._tasks.values()))
