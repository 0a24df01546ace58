"""A service's background tasks, and the failure that ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Runs coroutines until stopped; the first error of any, or one that is reported, is the service's failure."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """The service cannot go on."""
        if not self._failure.done():
            self._failure.set_result(error)

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that lives as long as the service."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def watch(self, check: Callable[[], BaseException | None], every: float = 1.0) -> None:
        """Ask again and again whether something has failed."""

        async def ask() -> None:
            while (error := check()) is None:  # noqa: ASYNC110  what is asked has no event to wait for
                await asyncio.sleep(every)
            self.fail(error)

        self.run(ask(), "watch")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def failed(self) -> BaseException:
        """Wait for the failure."""
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Cancel everything and wait until it has ended."""
        for task in set(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
