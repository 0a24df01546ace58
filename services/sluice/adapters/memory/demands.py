"""Demands in memory: the twin of the Kafka topic."""

from __future__ import annotations

from sluice.domain.sharing import Report
from sluice.ports.clock import Clock


class MemoryDemands:
    """Implements :class:`sluice.ports.demands.Demands`; :meth:`member` makes another worker's view of the same log.

    A report is readable ``delay`` seconds after it was said.
    """

    def __init__(self, clock: Clock, delay: float = 0.0, log: list[tuple[Report, float]] | None = None) -> None:
        self._clock = clock
        self._delay = delay
        self.log: list[tuple[Report, float]] = [] if log is None else log
        self._read = 0

    def member(self, delay: float = 0.0) -> MemoryDemands:
        """Another worker's view."""
        return MemoryDemands(self._clock, delay, self.log)

    def say(self, report: Report) -> None:
        """See :class:`sluice.ports.demands.Demands`."""
        self.log.append((report, self._clock.now()))

    def heard(self) -> list[tuple[Report, float]]:
        """See :class:`sluice.ports.demands.Demands`."""
        first = self._read
        while self._read < len(self.log) and self.log[self._read][1] + self._delay <= self._clock.now():
            self._read += 1
        return self.log[first : self._read]
