"""The rate of one lane through one egress, beside the lane's own."""

from __future__ import annotations

from sluice.deliver.exits import Exit
from sluice.domain.events import PRIORITIES
from sluice.domain.shaping import IDLE, Gcra, Rate, stretched


class Pace:
    """As in a lane, nothing may burst at first, and each priority books slots for itself (rank 0 is the highest).

    ``rate`` is what the site allows any one egress, None for all that the lane may have. Times are seconds since the
    epoch.
    """

    def __init__(self, rate: Rate | None, now: float) -> None:
        self._usual = Gcra.of(rate) if rate else None
        self._slow: Gcra | None = None
        self._slow_until = 0.0
        self._sent = now + self._usual.tolerance if self._usual else IDLE
        self._booked = [IDLE for _ in PRIORITIES]
        self.exit = Exit(self._at, self._sent)

    def follow(self, rate: Rate | None, now: float) -> None:
        """Another rate, without a burst that was not there before; slots come as much sooner or later as it is."""
        was, self._usual = self._usual, Gcra.of(rate) if rate else None
        if self._usual is None:
            self._booked = [IDLE for _ in PRIORITIES]
        elif was is None:
            self._sent = max(self._sent, now + self._usual.tolerance)
        else:
            self._sent = was.carried(self._sent, self._usual, now)
            scale = self._usual.interval / was.interval
            self._booked = [stretched(slot, now, scale) for slot in self._booked]

    def slow_down(self, rate: Rate, until: float) -> None:
        """No faster than ``rate`` until then."""
        self._slow, self._slow_until = Gcra.of(rate), until

    def book(self, now: float, rank: int) -> float:
        """A slot behind those booked before: when it may be used at the earliest."""
        ahead = max(self._booked[rank], self._sent)
        gcra = self._at(max(ahead, now))
        if gcra is None:
            return max(ahead, now)
        self._booked[rank], slot = gcra.reserve(ahead, now)
        return slot

    def wait(self, now: float) -> float:
        """Seconds until one may go."""
        gcra = self._at(now)
        return max(gcra.ready_at(self._sent) - now, self.exit.jam(now), 0.0) if gcra else 0.0

    def take(self, now: float) -> None:
        """One goes."""
        gcra = self._at(now)
        if gcra:
            self._sent = max(self._sent, now) + gcra.interval

    def _at(self, at: float) -> Gcra | None:
        """The limiter in force at ``at``, should nothing happen until then."""
        if self._slow is None or at >= self._slow_until:
            return self._usual
        return self._slow if self._usual is None or self._usual.interval < self._slow.interval else self._usual
