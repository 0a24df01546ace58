"""A site whose hosts cannot be reached is left alone for a while, longer each time; each egress may fail for itself."""

from __future__ import annotations

from sluice.domain.site import Site


class Circuit:
    """Failures to connect in a row, by egress. Times are seconds since the epoch."""

    def __init__(self, site: Site) -> None:
        self._enough = site.failed_connects
        self._pause = site.pause
        self._failures: dict[str, int] = {}
        """Of every egress that has tried; 0 when it got through."""
        self._until: dict[str, float] = {}
        self._before = 0

    def follow(self, site: Site) -> None:
        """Other rules: for failures from now on."""
        self._enough = site.failed_connects
        self._pause = site.pause

    @property
    def failures(self) -> int:
        """The most in a row, as the next owner should know."""
        return max(self._failures.values(), default=self._before)

    def restore(self, failures: int) -> None:
        """Go on from what the owner before has counted, whichever egress it was."""
        self._before = failures

    def failed(self, egress: str, now: float) -> None:
        """No host could be reached: pause for 2, 4, 8 … seconds, after enough in a row for as long as the site says."""
        count = self._failures.get(egress, self._before) + 1
        self._failures[egress] = count
        self._until[egress] = now + (self._pause if count >= self._enough else min(self._pause, float(2**count)))

    def connected(self, egress: str) -> None:
        """A connection was opened and greeted."""
        self._failures[egress] = self._before = 0
        self._until.pop(egress, None)

    def until(self, egress: str) -> float:
        """Until when it is not tried through ``egress``."""
        return self._until.get(egress, 0.0)

    def all_until(self) -> float:
        """Until when nobody tries: 0.0 while an egress that has tried has not failed."""
        if not self._until or len(self._until) < len(self._failures):
            return 0.0
        return min(self._until.values())

    def close(self) -> None:
        """Try again at once."""
        self._until.clear()
