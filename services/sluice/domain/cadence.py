"""How often something is done for records that keep coming, so that each time serves several."""

from __future__ import annotations

import msgspec

WINDOW_S = 0.25
"""Seconds over which arrivals are counted before they are believed."""


class Cadence(msgspec.Struct, frozen=True):
    """Requests, and turns of threads and processes, cost by their number more than by what they carry.

    Records that come rarely are served one by one, at once. Where they come so fast that several would come within
    ``longest`` seconds, those are served together: ``together`` of them, or as many as come in that time.
    """

    together: int = 8
    longest: float = 0.04

    def gap(self, rate: float) -> float:
        """Seconds to leave between two times, at ``rate`` records a second; 0.0 where there would be one each time."""
        if rate * self.longest < 2:
            return 0.0
        return min(self.longest, self.together / rate)


class Arrivals:
    """Counts what comes, and tells the gap to leave. Times are in seconds of one clock."""

    def __init__(self, cadence: Cadence, now: float) -> None:
        self._cadence = cadence
        self._since = now
        self._count = 0
        self._gap = 0.0

    def came(self, count: int, now: float) -> None:
        """So many have come."""
        self._roll(now)
        self._count += count

    def gap(self, now: float) -> float:
        """Seconds between two times; it follows the rate within half a second, and is 0.0 after as long a quiet."""
        self._roll(now)
        return self._gap

    def _roll(self, now: float) -> None:
        passed = now - self._since
        if passed < WINDOW_S:
            return
        self._gap = self._cadence.gap(self._count / passed)
        self._since, self._count = now, 0
