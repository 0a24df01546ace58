"""Which event is composed next, and when: by weighted priority, in short turns, bulk only as the pace has it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sluice.compose.origins import PRIORITY_OF
from sluice.compose.pace import Pace
from sluice.domain.events import PRIORITIES, Priority
from sluice.domain.shaping import PRIORITY_WEIGHTS, WeightedChooser
from sluice.domain.yielding import Yielding
from sluice.ports.clock import Clock
from sluice.ports.intake import Done, Taken
from sluice.ports.load import Load

TURN = 0.002
"""Seconds of composing after which other work of the process gets its turn."""
BACKLOG = 100
"""Events of a priority that wait, from which on those before them are in no hurry."""
_CHOOSER = WeightedChooser(PRIORITY_WEIGHTS)

Begin = Callable[[Taken, Done], None]


class Turns:
    """Queues what comes by its priority, and hands it to ``begin``, which composes it at once."""

    def __init__(self, begin: Begin, *, clock: Clock, load: Load, yielding: Yielding) -> None:
        self._begin = begin
        self._clock = clock
        self._load = load
        self._yielding = yielding
        self._queues: tuple[deque[tuple[Taken, Done]], ...] = tuple(deque() for _ in PRIORITIES)
        self._turns = _CHOOSER.start()
        self._arrived = asyncio.Event()
        self._resuming: asyncio.Task[None] | None = None

    def add(self, record: Taken, done: Done) -> None:
        """Queue an event."""
        self._queues[PRIORITIES.index(PRIORITY_OF[record.topic])].append((record, done))
        self._arrived.set()

    def drop(self, partitions: set[int]) -> None:
        """Forget what has not begun of these."""
        for queue in self._queues:
            kept = [pair for pair in queue if pair[0].partition not in partitions]
            queue.clear()
            queue.extend(kept)

    def backlogged(self, priority: Priority) -> bool:
        """Whether so many wait behind one of them that it does not matter to it when it goes on. Never for high."""
        rank = PRIORITIES.index(priority)
        return rank > 0 and len(self._queues[rank]) >= BACKLOG

    async def take_forever(self) -> None:
        """Compose what comes, urgent first, letting other work in between."""
        pace = Pace(self._yielding, self._load, self._clock.now())
        try:
            while True:
                await self._turn(pace)
        finally:
            if self._resuming is not None:
                self._resuming.cancel()
                self._resuming = None

    async def _turn(self, pace: Pace) -> None:
        """Compose for a moment, or wait until there is something that may be composed."""
        now = self._clock.now()
        over = now + TURN
        while now < over:
            urgent_only = pace.pause(now) > 0
            waiting = [bool(queue) and not (urgent_only and rank) for rank, queue in enumerate(self._queues)]
            self._turns, chosen = _CHOOSER.choose(self._turns, waiting)
            if chosen is None:
                self._arrived.clear()
                if any(self._queues) and self._resuming is None:
                    self._resuming = asyncio.create_task(self._resume(pace))
                await self._arrived.wait()
                return
            self._begin(*self._queues[chosen].popleft())
            before, now = now, self._clock.now()
            if chosen == 0:
                pace.urgent(now)
            else:
                pace.worked(now - before, now)
        pace.look(now)
        await asyncio.sleep(0)

    async def _resume(self, pace: Pace) -> None:
        """Wake composing when bulk may be composed again."""
        await self._clock.sleep(pace.pause(self._clock.now()))
        self._resuming = None
        pace.look(self._clock.now())
        self._arrived.set()
