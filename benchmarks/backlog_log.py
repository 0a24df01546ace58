"""A log in memory that forgets what was read, for simulations with more mails than a whole log would fit."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.follower import MemoryFollower
from sluice.domain.topics import DEAD, OUTCOME, READY, SUPPRESSIONS, WHEEL
from sluice.ports.bus import NotStored, Position, Record
from sluice.ports.clock import Clock
from sluice.ports.intake import Taken

FETCHED = 500
"""Records of a partition that one poll of the wheel brings at most."""
_WHEEL = tuple(WHEEL.values())


class Log:
    """``mail.ready.normal`` and ``mail.wheel.*``; outcomes are dropped, a dead letter is an error.

    ``entered`` counts by mail how often deliver put it into the wheel, ``moved`` how often the wheel moved it from one
    tier to another.
    """

    def __init__(self, clock: Clock, partitions: int) -> None:
        self._clock = clock
        self._counts = dict.fromkeys((*READY.values(), OUTCOME), partitions) | dict.fromkeys(
            (*_WHEEL, DEAD, SUPPRESSIONS), 1
        )
        self.kept = MemoryBus(self._counts)
        """Holds nothing: the ledger that is read back at the start."""
        self._queues: dict[tuple[str, int], deque[Taken]] = {}
        self._ends: Counter[tuple[str, int]] = Counter()
        self.entered: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()

    def side(self, service: str) -> Side:
        """The bus of one service."""
        return Side(self, service)

    def publish(self, record: Record, service: str) -> Position:
        """Store a record, and count it where the wheel is concerned."""
        if record.topic == DEAD:
            raise NotStored(f"{service} gave a record up: {dict(record.headers).get('sluice-reason')!r}")
        place = record.topic, record.partition or 0
        offset = self._ends[place]
        self._ends[place] += 1
        if record.topic in (*_WHEEL, *READY.values()):
            now = self._clock.now()
            taken = Taken(record.topic, place[1], offset, record.key, record.value, record.headers, now)
            self._queues.setdefault(place, deque()).append(taken)
        if record.topic in _WHEEL:
            message_id = dict(record.headers)["ce_id"].decode()
            (self.moved if service == "wheel" else self.entered)[message_id] += 1
        return Position(record.topic, place[1], offset)

    def partitions(self, topic: str) -> int:
        """Of a topic that exists."""
        return self._counts[topic]

    def feed_wheel(self, follower: MemoryFollower) -> None:
        """What a poll fetches, of partitions that are not paused."""
        for topic in _WHEEL:
            queue = self._queues.get((topic, 0))
            if queue and (topic, 0) not in follower.paused:
                follower.put(*(queue.popleft() for _ in range(min(FETCHED, len(queue)))))

    def ready(self, partition: int) -> Iterator[Taken]:
        """Take what waits for deliver."""
        queue = self._queues.get((READY["normal"], partition), deque())
        while queue:
            yield queue.popleft()


class Side:
    """Implements :class:`sluice.ports.bus.Bus` for one service."""

    def __init__(self, log: Log, service: str) -> None:
        self._log = log
        self._service = service

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """As the port says; stored at once."""
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        future.set_result(self._log.publish(record, self._service))
        return future

    def partitions(self, topic: str) -> int:
        """As the port says."""
        return self._log.partitions(topic)
