"""Partitions are added while workers run: which lanes are at home elsewhere since, and from when they may be served."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sluice.domain.site import lane_partition
from sluice.ports.clock import Clock

log = structlog.get_logger(__name__)
SETTLE_S = 12.0
"""Seconds after which every worker has noticed added partitions, and attempts of lanes that moved have ended mostly."""


class Growth:
    """Every worker notices within seconds, not at the same moment: a lane that moved is not served by its new owner
    before the old one has certainly let go of it. ``partitions`` is how many there are."""

    def __init__(self, partitions: Callable[[], int], clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock
        self._counted = 0
        self._grown_from = 0
        self._grown_at = 0.0

    def noticed(self) -> bool:
        """Count again; whether there are more than the last time."""
        was, self._counted = self._counted, self._partitions()
        if not was or was == self._counted:
            return False
        log.info("partitions.grown", was=was, now=self._counted)
        self._grown_from, self._grown_at = was, self._clock.now()
        return True

    def has_moved(self, lane: str) -> bool:
        """Whether the lane is at home in another partition since the last growth."""
        return bool(self._grown_from) and lane_partition(lane, self._grown_from) != self.home(lane)

    def home(self, lane: str) -> int:
        """The lane's partition."""
        return lane_partition(lane, self._partitions())

    @property
    def settled_at(self) -> float:
        """From when lanes that moved may be served."""
        return self._grown_at + SETTLE_S
