"""One limit that several lanes share, as this worker may use it: its share, what it has sent, who waits."""

from __future__ import annotations

from sluice.deliver.exits import Exit
from sluice.domain.shaping import IDLE, Gcra, Rate
from sluice.domain.sharing import INTERVAL

ATTACK, DECAY = 0.7, 0.3
"""How much of a rise, and of a fall, of what is wanted is believed within a report's interval."""
AHEAD_S = 10.0
"""Seconds in which a worker would like to have sent what has booked: makes a backlog comparable with a rate."""
LISTEN_S = 0.1
"""Seconds between two looks at what others said, and at who may go on."""
NOTHING = 0.01
"""Mails per second below which nothing is wanted."""


class Meter:
    """Times are seconds since the epoch. What was sent stays counted while shares move."""

    def __init__(self, limit: Rate) -> None:
        self.limit = limit
        self._share = 0.0
        self._gcra = Gcra.of(limit)
        self._fresh = True
        self._closed_with = 0.0
        self._sent = IDLE
        self._booked = IDLE
        self._came = 0
        self._rate = 0.0
        self.exit = Exit(lambda _: self._gcra, IDLE, shut=lambda: not self.open)

    @property
    def open(self) -> bool:
        """Whether there is a share at all."""
        return self._share > 0

    def follow(self, limit: Rate, share: float, alone: bool, now: float) -> None:
        """Let the limiter follow the limit and the share in force; ``alone`` when nobody else has any of it.

        How many may leave at once is carried over, so that no change gives a burst that was not there before.
        """
        if share == self._share and limit == self.limit:
            return
        was, self.limit = self._gcra, limit
        if not share:
            self._closed_with = self._left(was, now)
        else:
            self._gcra = Gcra.of(Rate(limit.count * share, limit.per, max(1, int(limit.burst * share))))
            left = min(
                self._left(was, now) if self._share else self._closed_with, self._gcra.tolerance / self._gcra.interval
            )
            if not self._share:
                # Whoever had the share may have spent its burst, or its last slot, a moment ago.
                left = min(left, -1.0 if self._fresh and not alone else 0.0)
                self._fresh = False
            self._sent = now + self._gcra.tolerance - left * self._gcra.interval
            scale = self._gcra.interval / was.interval
            self._booked = now + max(0.0, self._booked - now) * scale
        self._share = share

    def _left(self, gcra: Gcra, now: float) -> float:
        """How many more than one could leave now; negative while the next has to wait."""
        return (now + gcra.tolerance - max(self._sent, now)) / gcra.interval

    def came(self) -> None:
        """A mail under the limit has come, new or back for its slot."""
        self._came += 1

    def book(self, now: float) -> float:
        """A slot behind all that were booked before: for a mail that may have to wait long."""
        self._booked, slot = self._gcra.reserve(max(self._booked, self._sent), now)
        return slot

    def ready_at(self, now: float, ahead: int = 0) -> float:
        """When the next may leave, after ``ahead`` others; without a share, a guess at when it is worth asking."""
        if not self._share:
            return now + LISTEN_S + ahead * self._gcra.interval
        ready = self._gcra.ready_at(self._sent)
        if jam := self.exit.jam(now):
            ready = max(ready, now + jam)
        return max(now, ready + ahead * self._gcra.interval)

    def take(self, now: float) -> None:
        """One leaves."""
        self._sent = max(self._sent, now) + self._gcra.interval

    def demand(self, seconds: float, now: float) -> float:
        """Mails per second wanted, when ``seconds`` have passed since this was asked last; 0.0 for none to speak of."""
        rate = self._came / max(seconds, INTERVAL)
        self._came = 0
        self._rate += (rate - self._rate) * (ATTACK if rate > self._rate else DECAY)
        demand = self._rate + self.ahead(now)
        return demand if demand >= NOTHING else 0.0

    def ahead(self, now: float) -> float:
        """Mails per second that would do for those who have booked."""
        return max(0.0, self._booked - now) / self._gcra.interval / AHEAD_S

    def owes(self, now: float) -> bool:
        """Whether the last that left still counts: its share must not go to somebody who could send at once."""
        return self._share > 0 and self._left(self._gcra, now) < 0
