"""Time."""

from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests move it instead of sleeping."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``; at once when they are zero or less."""
        ...
