"""Turns the wheel: holds what rests, publishes what is due, commits what has moved on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator

import structlog

from sluice.domain.errors import Undecodable
from sluice.domain.mail import RETURN_TO
from sluice.domain.spread import Spread
from sluice.domain.topics import WHEEL
from sluice.domain.window import Window
from sluice.ports.bus import Bus, Position, Record
from sluice.ports.clock import Clock
from sluice.ports.follower import Follower, Part
from sluice.ports.intake import Taken
from sluice.ports.metrics import COMMIT_AGE, WAITING, WHEEL_DUE, WHEEL_LATENESS, WHEEL_RESTING, Figure
from sluice.ports.records import dead_record
from sluice.ports.spans import Rested, Spans
from sluice.wheel.step import REASONS, due_at, move_on, rests_since, waits_for

log = structlog.get_logger(__name__)
RESTING_RECORDS = 2000
RESTING_BYTES = 16 * 1024 * 1024
"""Held in memory of one partition before its fetching pauses: due times are in order, so the head is what counts."""
RESTING_IN_ALL = 96 * 1024 * 1024
"""Bytes held in memory of all partitions, of which each may go on to :data:`HEAD_BYTES` when that is used up."""
HEAD_BYTES = 1024 * 1024
TICK = 0.1
_WITHIN = (0.0, 10.0, 60.0, 300.0, 3600.0)
_DUE = ("overdue", "10s", "1m", "5m", "1h", "later")
_TIER = {topic: tier for tier, topic in WHEEL.items()}


class _Resting:
    """What one partition holds in memory."""

    def __init__(self) -> None:
        self.window = Window()
        self.heap: list[tuple[float, int, Taken, str]] = []
        self.bytes = 0
        self.committed: int | None = None
        self.paused = False


class WheelTurner:
    """Turns until stopped. At least once: a record released just before a crash is released again."""

    def __init__(self, follower: Follower, bus: Bus, clock: Clock, spans: Spans | None = None) -> None:
        self._spans = spans
        self._follower = follower
        self._bus = bus
        self._clock = clock
        self._parts: dict[Part, _Resting] = {}
        self._order = itertools.count()
        self._stopping = False
        self._lateness = Spread(WHEEL_LATENESS.bounds)
        self.turns = 0
        self.turned_at = time.monotonic()
        """When the last turn ended, monotonic seconds: a watchdog reads it."""

    @property
    def resting(self) -> int:
        """Records held in memory."""
        return sum(len(part.heap) for part in self._parts.values())

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        now = self._clock.now()
        resting: dict[str, int] = {}
        reasons = dict.fromkeys(REASONS, 0)
        due = Spread(_WITHIN)
        for (topic, _), part in self._parts.items():
            tier = _TIER.get(topic, topic)
            resting[tier] = resting.get(tier, 0) + len(part.heap)
            for at, _, _, reason in part.heap:
                due.add(at - now)
                reasons[reason] += 1
        for tier, count in resting.items():
            yield Figure(WHEEL_RESTING, count, (tier,))
        for name, count in zip(_DUE, due.counts, strict=True):
            yield Figure(WHEEL_DUE, count, (name,))
        for reason, count in reasons.items():
            yield Figure(WAITING, count, (reason,))
        yield Figure(WHEEL_LATENESS, self._lateness)
        yield Figure(COMMIT_AGE, time.monotonic() - self.turned_at)

    def stop(self) -> None:
        """Let :meth:`run` return after its present turn; nothing that rests is lost."""
        self._stopping = True

    async def run(self) -> None:
        """Turn until stopped. Raises :class:`sluice.ports.bus.NotStored` when the log takes nothing any more."""
        while not self._stopping:
            await self.turn()
        await self._follower.close()

    async def turn(self) -> None:
        """One turn: take what came, release what is due, commit."""
        polled = await self._follower.poll(self._until_next())
        for part in polled.revoked:
            self._parts.pop(part, None)
        for record in polled.records:
            await self._take(record)
        await self._release()
        await self._commit()
        self._hold_back()
        self.turns += 1
        self.turned_at = time.monotonic()

    def _until_next(self) -> float:
        nearest = min((part.heap[0][0] for part in self._parts.values() if part.heap), default=float("inf"))
        return max(0.0, min(TICK, nearest - self._clock.now()))

    async def _take(self, record: Taken) -> None:
        part = self._parts.setdefault((record.topic, record.partition), _Resting())
        if not part.window.take(record.offset):
            return
        try:
            due = due_at(record)
        except Undecodable as error:
            await self._bury(record, error)
            part.window.finish(record.offset)
            return
        heapq.heappush(part.heap, (due, next(self._order), record, waits_for(record)))
        part.bytes += record.size

    def _there(self, record: Record) -> Record:
        """The record, unless it is for a partition that there is not: the log would refuse it for ever."""
        if record.partition is not None and record.partition >= self._bus.partitions(record.topic):
            raise Undecodable(RETURN_TO, "names a partition that there is not")
        return record

    async def _bury(self, record: Taken, error: Undecodable) -> None:
        log.warning("wheel.dead_letter", topic=record.topic, offset=record.offset, field=error.field)
        await self._bus.publish(dead_record(record, str(error)))

    async def _release(self) -> None:
        now = self._clock.now()
        moving: list[tuple[_Resting, Taken, asyncio.Future[Position]]] = []
        earliest = min((part.heap[0][0] for part in self._parts.values() if part.heap), default=now)
        if earliest < now:
            self._lateness.add(now - earliest)
        for part in self._parts.values():
            while part.heap and part.heap[0][0] <= now:
                due, _, record, reason = heapq.heappop(part.heap)
                part.bytes -= record.size
                try:
                    moved = self._there(move_on(record, now))
                    moving.append((part, record, self._bus.publish(moved)))
                    self._tell(record, moved.topic, reason, due, now)
                except Undecodable as error:
                    await self._bury(record, error)
                    part.window.finish(record.offset)
        await asyncio.gather(*(stored for _, _, stored in moving))
        for part, record, _ in moving:
            part.window.finish(record.offset)

    def _tell(self, record: Taken, to: str, reason: str, due: float, now: float) -> None:
        if self._spans is not None and to not in _TIER:
            self._spans.rested(record.headers, Rested(record.topic, to, reason, rests_since(record), due, now))

    async def _commit(self) -> None:
        moved: dict[Part, int] = {}
        for place, part in self._parts.items():
            offset = part.window.committable
            if offset is not None and offset != part.committed:
                moved[place] = part.committed = offset
        if moved:
            await self._follower.commit(moved)

    def _hold_back(self) -> None:
        pause: set[Part] = set()
        resume: set[Part] = set()
        held = sum(part.bytes for part in self._parts.values())
        most = HEAD_BYTES if held >= RESTING_IN_ALL else RESTING_BYTES
        enough = HEAD_BYTES if held >= RESTING_IN_ALL * 3 // 4 else RESTING_BYTES
        for place, part in self._parts.items():
            full = len(part.heap) >= RESTING_RECORDS or part.bytes >= most
            if full and not part.paused:
                pause.add(place)
                part.paused = True
            elif part.paused and len(part.heap) < RESTING_RECORDS // 2 and part.bytes < enough // 2:
                resume.add(place)
                part.paused = False
        if pause:
            self._follower.pause(pause)
        if resume:
            self._follower.resume(resume)
