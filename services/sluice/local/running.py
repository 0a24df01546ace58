"""Running a planned stack: until told to stop, or for as long as some work takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sluice.local.stack import LocalStack
from sluice.runtime.child import ChildStatus
from sluice.runtime.supervisor import SIGNALS, Supervisor

LOOK_EVERY = 0.2
T = TypeVar("T")
Watch = Callable[[list[ChildStatus]], None]


class Interrupted(Exception):
    """The operator asked to stop."""


class Running:
    """A stack whose processes are all ready."""

    def __init__(self, stack: LocalStack, supervisor: Supervisor) -> None:
        self.stack = stack
        self._supervisor = supervisor

    def status(self) -> list[ChildStatus]:
        """The processes at this moment."""
        return self._supervisor.status()

    async def wait(self) -> None:
        """Return when a stop is asked for; raises :class:`sluice.runtime.child.ChildFailed`."""
        await self._supervisor.wait()

    async def during(self, work: Awaitable[T]) -> T:
        """Do ``work`` while the stack runs. Raises :class:`Interrupted` when a stop is asked for before it is done."""
        doing = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self._supervisor.wait())
        try:
            await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            waiting.result()
            raise Interrupted
        finally:
            for task in (doing, waiting):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


@asynccontextmanager
async def running(stack: LocalStack, watch: Watch = lambda _: None) -> AsyncIterator[Running]:
    """Start everything, hand over when all is ready, and stop everything at the end. Run it in the main thread.

    ``watch`` is called five times a second with the children, from the start to the end. SIGINT, SIGTERM and SIGHUP ask
    to stop. Raises :class:`Interrupted` when that happens before all is ready, and what stands in the way of a start.
    """
    supervisor = Supervisor(stack.children, data=stack.folder.path)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, supervisor.request_stop)
    looking = asyncio.create_task(_look(stack, supervisor, watch))
    try:
        await supervisor.start()
        if stack.failure is not None:
            raise stack.failure
        if supervisor.stopping:
            raise Interrupted
        stack.write_environment()
        watch(supervisor.status())
        yield Running(stack, supervisor)
    finally:
        await supervisor.stop()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        watch(supervisor.status())
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _look(stack: LocalStack, supervisor: Supervisor, watch: Watch) -> None:
    while True:
        if stack.failure is not None and not supervisor.stopping:
            supervisor.request_stop()
        watch(supervisor.status())
        await asyncio.sleep(LOOK_EVERY)
