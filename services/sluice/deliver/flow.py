"""Mails of one lane that may go over the same connections, by priority."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from sluice.deliver.item import Item
from sluice.deliver.paths import Path
from sluice.domain.egress import Egress
from sluice.domain.events import PRIORITIES
from sluice.domain.shaping import WeightedChooser

if TYPE_CHECKING:
    from sluice.deliver.lane import Lane
    from sluice.deliver.slots import Slots

RANK = {priority: rank for rank, priority in enumerate(PRIORITIES)}
"""0 is the highest priority."""


class Flow:
    """The queues. ``egress`` is where the mails leave from, ``path`` leads to the hosts that take them.

    ``slots`` are the limits that connections count in, those that hold for the fewest first.
    """

    def __init__(
        self, lane: Lane, egress: Egress, path: Path, slots: tuple[Slots, ...], chooser: WeightedChooser
    ) -> None:
        self.lane = lane
        self.egress = egress
        self.path = path
        self.slots = slots
        self.queues: tuple[deque[Item], ...] = tuple(deque() for _ in PRIORITIES)
        self.used_at = 0.0
        """When it was offered a mail last."""
        self.seats = 0
        """Sender agents that serve it."""
        self.attending = 0
        """Sender agents on their way to take a mail from here."""
        self.held_back = 0
        """Agents that wait for the rate: more of them would send no faster."""
        self.greeted = False
        """Whether the last host that was called has answered: until one does, few call."""
        self.stamp: int | None = None
        """Since when, in a count of all who ever waited, it waits for a connection; None once it got one."""
        self._chooser = chooser
        self._turns = chooser.start()

    def __len__(self) -> int:
        return sum(map(len, self.queues))

    @property
    def rank(self) -> int | None:
        """The highest rank of the mails that wait, None when there is none."""
        return next((rank for rank, queue in enumerate(self.queues) if queue), None)

    @property
    def unattended(self) -> int | None:
        """The highest rank of the mails that nobody is on the way to take, None when there is none."""
        ahead = self.attending
        for rank, queue in enumerate(self.queues):
            if len(queue) > ahead:
                return rank
            ahead -= len(queue)
        return None

    def waits(self, rank: int) -> bool:
        """Whether there is mail of ``rank`` that nobody is on the way to take."""
        queues = self.queues
        return bool(queues[rank]) and sum(map(len, queues[: rank + 1])) > self.attending

    def push(self, item: Item) -> None:
        """Queue a mail behind those of its priority."""
        self.queues[RANK[item.mail.envelope.priority]].append(item)

    def pop(self, *, urgent_only: bool = False) -> Item | None:
        """The mail whose turn it is, None when there is none."""
        waiting = [bool(queue) and not (urgent_only and rank) for rank, queue in enumerate(self.queues)]
        self._turns, rank = self._chooser.choose(self._turns, waiting)
        return None if rank is None else self.queues[rank].popleft()

    def unpop(self, item: Item) -> None:
        """Put a mail back where it was taken from."""
        self.queues[RANK[item.mail.envelope.priority]].appendleft(item)

    def drop(self, items: set[Item]) -> None:
        """Forget mails without a trace: their records are handed back."""
        for queue in self.queues:
            kept = [item for item in queue if item not in items]
            queue.clear()
            queue.extend(kept)

    def waiting(self) -> Iterator[Item]:
        """Every mail in the queues."""
        return chain.from_iterable(self.queues)

    def overdue(self, before: float) -> Iterator[Item]:
        """Take out mails that have waited here since ``before`` or longer."""
        for queue in self.queues:
            while queue and queue[0].taken_at < before:
                yield queue.popleft()
