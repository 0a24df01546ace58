"""How busy the processors are, from the kernel's counters."""

from __future__ import annotations

import time

import psutil

from sluice.adapters.system.cgroups import ControlGroups


class SystemLoad:
    """Implements :class:`sluice.ports.load.Load`. A call reads a few small files: a tenth of a millisecond."""

    def __init__(self, groups: ControlGroups | None = None) -> None:
        self._groups = groups or ControlGroups()
        self._quota = self._groups.cpus()
        self._machine = _machine()
        self._used = self._groups.used()
        self._asked_at = time.monotonic()

    def busy(self) -> float:
        """See :class:`sluice.ports.load.Load`."""
        idle, total = _machine()
        idle_before, total_before = self._machine
        self._machine = (idle, total)
        passed = total - total_before
        machine = 1.0 - (idle - idle_before) / passed if passed > 0 else 0.0
        return min(1.0, max(0.0, machine, self._of_quota()))

    def _of_quota(self) -> float:
        """What the container used of what it may."""
        if self._quota is None:
            return 0.0
        now, used = time.monotonic(), self._groups.used()
        seconds, self._asked_at = now - self._asked_at, now
        before, self._used = self._used, used
        if used is None or before is None or seconds <= 0:
            return 0.0
        return (used - before) / (self._quota * seconds)


def _machine() -> tuple[float, float]:
    """Seconds since the start, over all processors: unused, and in all."""
    times = psutil.cpu_times()
    # What guests use is in user and nice already.
    named = ("user", "nice", "system", "irq", "softirq", "steal")
    idle = times.idle + getattr(times, "iowait", 0.0)
    return idle, idle + sum(getattr(times, name, 0.0) for name in named)
