"""Connections that a lane, or the whole worker, may have: how many are taken, and who waits for one."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count, islice

from sluice.deliver.flow import Flow
from sluice.domain.events import PRIORITIES
from sluice.domain.priorities import Priorities
from sluice.domain.shaping import WeightedChooser
from sluice.ports.mailer import Connection

_stamps = count(1)
COUNTED = 100
"""Flows at the front of a line that are looked at to tell how many may have somebody's place."""


class Seat:
    """A sender agent's place: it counts in each of its flow's ``slots``. ``connection`` is what it has open.

    ``general`` is one that may serve every priority; the others serve the highest alone. ``since`` is when its turn, or
    its rest, began; it need not ask before ``asks_at`` whether to leave. ``call`` wakes it while it rests.
    """

    __slots__ = (
        "asks_at",
        "attending",
        "call",
        "connection",
        "flow",
        "general",
        "held_back",
        "leaving",
        "since",
        "slots",
    )

    def __init__(self, flow: Flow, now: float) -> None:
        self.flow = flow
        self.slots = flow.slots
        self.since = now
        self.asks_at = now
        self.connection: Connection | None = None
        self.general = False
        self.held_back = False
        self.attending = False
        self.leaving = False
        self.call = asyncio.Event()


class Slots:
    """One limit on connections. ``total`` tells how many there may be at this moment."""

    def __init__(self, total: Callable[[], int], priorities: Priorities, chooser: WeightedChooser) -> None:
        self._total = total
        self._priorities = priorities
        self._counted, self._reserved = 0, 0
        self.taken = 0
        self.general = 0
        """Those taken by agents that serve every priority; what is kept for the highest is never among them."""
        self.leaving = 0
        """Those that are about to be given back."""
        self.idle: dict[Seat, None] = {}
        """Open and unused, the one that rests for longest first."""
        self.line = Line(chooser)

    @property
    def full(self) -> bool:
        """Whether none is free."""
        return self.taken >= self._total()

    @property
    def overfull(self) -> bool:
        """Whether there are more than there may be by now."""
        return self.taken - self.leaving > self._total()

    @property
    def general_most(self) -> int:
        """How many may serve every priority."""
        total = self._total()
        if total != self._counted:
            self._counted, self._reserved = total, self._priorities.reserved(total)
        return total - self._reserved

    @property
    def general_room(self) -> bool:
        """Whether one more may serve every priority."""
        return self.general < self.general_most

    def room(self, rank: int) -> bool:
        """Whether a connection may be opened for mail of ``rank``."""
        return not self.full and (rank == 0 or self.general_room)


class Line:
    """Flows that wait for a connection: classes by weight, and in a class who has waited for longest.

    A flow whose mails went away while it waited has its old place when the next one comes.
    """

    def __init__(self, chooser: WeightedChooser) -> None:
        self._chooser = chooser
        self._turns = chooser.start()
        self._heaps: tuple[list[tuple[int, int, Flow]], ...] = tuple([] for _ in PRIORITIES)
        self._members: tuple[dict[Flow, int], ...] = tuple({} for _ in PRIORITIES)

    def __len__(self) -> int:
        return max(map(len, self._members))

    def join(self, flow: Flow) -> None:
        """Wait, for every priority of which the flow has mail."""
        if flow.stamp is None:
            flow.stamp = next(_stamps)
        for heap, members, queue in zip(self._heaps, self._members, flow.queues, strict=True):
            if queue and members.get(flow) != flow.stamp:
                members[flow] = flow.stamp
                heapq.heappush(heap, (flow.stamp, id(flow), flow))

    def next(self, allowed: Callable[[int, Flow], bool]) -> Flow | None:
        """Take out the flow whose turn it is, among those first in their class that are ``allowed``; None for none."""
        heads = [self._head(rank) for rank in range(len(self._heaps))]
        waiting = [head is not None and allowed(rank, head) for rank, head in enumerate(heads)]
        self._turns, rank = self._chooser.choose(self._turns, waiting)
        if rank is None:
            return None
        _, _, flow = heapq.heappop(self._heaps[rank])
        self._members[rank].pop(flow, None)
        return flow

    def go_before(self, flow: Flow, rank: int) -> int:
        """How many, of the first few, wait whose turn it is and not that of ``flow``, which serves mail of ``rank``.

        Of the same priority those who have none, or fewer by more than one: flows that want as many as there are
        would only change places.
        """
        others = [self._besides(each, flow, each == rank) for each in range(len(self._heaps))]
        if not any(others):
            return 0
        claims = [bool(waiting) or each == rank for each, waiting in enumerate(others)]
        turns, chosen = self._chooser.choose(self._turns, claims)
        if chosen is None or others[chosen]:
            return sum(others)
        self._turns = turns
        return 0

    def _head(self, rank: int) -> Flow | None:
        heap = self._heaps[rank]
        while heap:
            stamp, _, flow = heap[0]
            if _waits(flow, rank, stamp):
                return flow
            heapq.heappop(heap)
            if self._members[rank].get(flow) == stamp:
                del self._members[rank][flow]
        return None

    def _besides(self, rank: int, flow: Flow, alike: bool) -> int:
        if self._head(rank) is None:
            return 0
        return sum(
            1
            for stamp, _, other in islice(self._heaps[rank], COUNTED)
            if other is not flow and _waits(other, rank, stamp) and not (alike and other.seats > max(0, flow.seats - 2))
        )


def _waits(flow: Flow, rank: int, stamp: int) -> bool:
    return flow.stamp == stamp and flow.waits(rank)
