"""What a service has begun for its records and must see through before it lets their partitions go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sluice.ports.bus import Position, when_stored


class Unsettled:
    """Counts publications and runs small tasks. The failure of any is told to ``fatal``: the process must stop, its
    records unacknowledged."""

    def __init__(self, fatal: Callable[[BaseException], None]) -> None:
        self._fatal = fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0

    def when_stored(self, stored: Sequence[asyncio.Future[Position]], then: Callable[[], None]) -> None:
        """Call ``then`` once all are stored."""
        self._open += 1

        def finish() -> None:
            self._open -= 1
            then()

        when_stored(stored, finish, self._fatal)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal(error)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks or self._open:  # noqa: ASYNC110  once per rebalance; an event would cost every mail
            await asyncio.sleep(0.01)
