"""How late the event loop is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sluice.domain.spread import Spread
from sluice.ports.figures import Figure
from sluice.ports.machine_metrics import LOOP_DELAY

EVERY_S = 0.25


class LoopDelay:
    """Asks the loop to come back, again and again, and sees how late it does. Made and used in that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spread = Spread(LOOP_DELAY.bounds)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = self._loop.call_later(EVERY_S, self._look, self._loop.time() + EVERY_S)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float) -> None:
        self._spread.add(max(0.0, self._loop.time() - due))
        self.start()

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        yield Figure(LOOP_DELAY, self._spread)
