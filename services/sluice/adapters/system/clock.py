"""The machine's own clock."""

import asyncio
import time


class SystemClock:
    """Implements :class:`sluice.ports.clock.Clock`."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(max(0.0, seconds))
