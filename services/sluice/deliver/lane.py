"""A lane's queue, its share of the site's allowance, and the decision who waits where."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Literal

import msgspec

from sluice.deliver.item import Item
from sluice.domain.events import PRIORITIES
from sluice.domain.mail import Mail
from sluice.domain.shaping import IDLE, PRIORITY_WEIGHTS, Gcra, WeightedChooser
from sluice.domain.site import Penalty, Share, Site

_CHOOSER = WeightedChooser(PRIORITY_WEIGHTS)
_RANK = {priority: rank for rank, priority in enumerate(PRIORITIES)}
LONGEST_GUESS = 300.0
"""Seconds that a mail is put off at most when only a guess says how long connections will be busy."""


class Wait(msgspec.Struct, frozen=True):
    """The mail should wait in the wheel until ``until`` (seconds since the epoch), for ``reason``."""

    until: float
    reason: Literal["rate", "connection"]


class Flow:
    """Mails of one lane that the same hosts take, by priority."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.queues: tuple[deque[Item], ...] = tuple(deque() for _ in PRIORITIES)
        self.idle = 0
        """Sender agents that hold an open connection and wait for mail."""
        self.arrived = asyncio.Event()
        self._turns = _CHOOSER.start()

    def __len__(self) -> int:
        return sum(map(len, self.queues))

    def push(self, item: Item) -> None:
        """Queue a mail behind those of its priority."""
        self.queues[_RANK[item.mail.envelope.priority]].append(item)
        self.arrived.set()

    def pop(self) -> Item | None:
        """The mail whose turn it is, None when there is none."""
        self._turns, rank = _CHOOSER.choose(self._turns, [bool(queue) for queue in self.queues])
        return None if rank is None else self.queues[rank].popleft()

    def unpop(self, item: Item) -> None:
        """Put a mail back where it was taken from."""
        self.queues[_RANK[item.mail.envelope.priority]].appendleft(item)

    def drop(self, items: set[Item]) -> None:
        """Forget mails without a trace: their records are handed back."""
        for queue in self.queues:
            kept = [item for item in queue if item not in items]
            queue.clear()
            queue.extend(kept)

    def overdue(self, before: float) -> Iterator[Item]:
        """Take out mails that have waited here since ``before`` or longer."""
        for queue in self.queues:
            while queue and queue[0].taken_at < before:
                yield queue.popleft()


class Lane:
    """What this worker may do at one site through one lane. Times are seconds since the epoch."""

    def __init__(self, name: str, site: Site, number: int) -> None:
        self.name = name
        self.site = site
        self.flows: dict[str, Flow] = {}
        self.senders = 0
        self.paused_until = 0.0
        self.failed_connects = 0
        self.service = 0.05
        """Seconds that a mail keeps a connection busy, averaged."""
        self._plain = site.share(number)
        self._penalised_until = 0.0
        self._penalty: Penalty | None = None
        self._running: dict[Item, float] = {}
        self._use(self._plain)
        self._sent = IDLE
        self._booked = IDLE

    def _use(self, share: Share) -> None:
        self.share = share
        self._gcra = Gcra.of(share.rate) if share.rate else None

    def flow(self, key: str) -> Flow:
        """The flow towards the hosts that ``key`` names."""
        found = self.flows.get(key)
        if found is None:
            found = self.flows[key] = Flow(key)
        return found

    @property
    def queued(self) -> int:
        """Mails waiting in memory."""
        return sum(map(len, self.flows.values()))

    def place(self, mail: Mail, now: float, patience: float) -> Wait | None:
        """Where a mail that has just arrived waits: None for here, in memory.

        A mail over the rate books a slot, and comes back for it: most wait in the wheel once, however long the backlog.
        """
        self._expire_penalty(now)
        if self.paused_until - now > patience:
            return Wait(self.paused_until, "connection")
        guess = self._busy_for(now)
        if guess > patience:
            return Wait(now + min(guess, LONGEST_GUESS), "connection")
        if self._gcra is not None and mail.progress.slot is None:
            self._booked, slot = self._gcra.reserve(max(self._booked, self._sent), now)
            if slot - now > patience:
                return Wait(slot, "rate")
        return None

    def _busy_for(self, now: float) -> float:
        """How long until a mail queued now would get a connection, guessed from what mails take here."""
        slowest = max((now - started for started in self._running.values()), default=0.0)
        return self.queued * max(self.service, slowest) / max(1, self.share.connections)

    def drop(self, items: set[Item]) -> None:
        """Forget queued mails whose records are handed back."""
        for flow in self.flows.values():
            flow.drop(items)

    def turn(self, now: float) -> float:
        """Take a turn to send: 0.0 when it may go now, else the seconds until it is worth asking again."""
        if self.paused_until > now:
            return self.paused_until - now
        if self._gcra is None:
            return 0.0
        self._sent, allowed = self._gcra.allow(self._sent, now)
        return 0.0 if allowed else max(0.001, self._gcra.ready_at(self._sent) - now)

    def begin(self, item: Item, now: float) -> None:
        """An attempt occupies a connection from ``now``."""
        self._running[item] = now

    def end(self, item: Item, now: float) -> None:
        """It no longer does."""
        started = self._running.pop(item, now)
        self.service += (now - started - self.service) * 0.1

    def connected(self) -> None:
        """A connection was opened."""
        self.failed_connects = 0

    def connect_failed(self, now: float) -> None:
        """No host could be reached: pause, longer each time in a row, up to the site's ``pause``."""
        self.failed_connects += 1
        pause = min(self.site.pause, float(2**self.failed_connects))
        self.paused_until = max(self.paused_until, now + pause)

    def suspend(self, until: float) -> None:
        """Send nothing before ``until``."""
        self.paused_until = max(self.paused_until, until)

    def penalise(self, penalty: Penalty, now: float) -> None:
        """The site blames our reputation: use the penalty's allowance while it lasts."""
        self._penalised_until = now + penalty.lasts
        self._penalty = penalty
        self._use(penalty.apply(self._plain))

    def _expire_penalty(self, now: float) -> None:
        if self._penalty is not None and now >= self._penalised_until:
            self._penalty = None
            self._use(self._plain)
