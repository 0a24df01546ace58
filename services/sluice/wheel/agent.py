"""The wheel service: ``mail.wheel.*`` in, and back to where each record came from when it is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from sluice.domain.topics import WHEEL
from sluice.ports.health import Health
from sluice.ports.metrics import Figure
from sluice.runtime import telemetry, wiring
from sluice.runtime.config import Settings
from sluice.runtime.tasks import Tasks
from sluice.wheel.turner import WheelTurner

GROUP = "sluice-wheel"


class WheelService:
    """See :class:`sluice.runtime.lifecycle.Service`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._bus = wiring.bus(settings)
        self._follower = wiring.follower(settings, GROUP, tuple(WHEEL.values()))
        self._spans = telemetry.spans("wheel", settings)
        self._turner = WheelTurner(self._follower, self._bus, wiring.SystemClock(), self._spans)
        self._turning: asyncio.Task[None] | None = None

    @property
    def health(self) -> Health:
        """Alive while the wheel turns."""
        still = time.monotonic() - self._turner.turned_at
        reason = f"the wheel has not turned for {still:.0f} s" if still > self._settings.stall_s else ""
        return Health(not reason, self._turner.turns > 0, reason, {"resting": float(self._turner.resting)})

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        yield from self._bus.figures()
        yield from self._follower.figures()
        yield from self._turner.figures()

    async def start(self) -> None:
        """Join; raises :class:`sluice.ports.bus.NotStored` when topics are missing."""
        for topic in WHEEL.values():
            self._bus.partitions(topic)
        self._turning = self._tasks.run(self._turner.run(), "wheel")

    async def failed(self) -> BaseException:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        return await self._tasks.failed()

    async def stop(self) -> None:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        self._turner.stop()
        if self._turning is not None:
            await asyncio.gather(self._turning, return_exceptions=True)
        await self._bus.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


async def open_wheel(settings: Settings) -> WheelService:
    """Build the service."""
    return WheelService(settings)
