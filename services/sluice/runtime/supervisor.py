"""Runs children as one: started in the order they need each other, kept running, stopped in reverse.

Children live in sessions of their own, so ctrl-c reaches the supervisor alone; and the kernel kills them when the
supervisor dies (prctl's PR_SET_PDEATHSIG), so none is ever left behind. That signal is tied to the thread that started
them: run the supervisor's event loop in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sluice.domain.errors import SluiceError
from sluice.runtime.child import Child, ChildFailed, ChildStatus
from sluice.runtime.childlog import RotatedFile
from sluice.runtime.keeper import Keeper

__all__ = ["Child", "ChildFailed", "ChildStatus", "FolderInUse", "Supervisor"]

LOG_BYTES = 10 * 1024 * 1024
LOGS_KEPT = 3
LOCK = "supervisor.lock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FolderInUse(SluiceError):
    """Another supervisor runs on this data folder."""

    def __init__(self, data: Path, pid: str) -> None:
        super().__init__(
            f"{data} is in use by another Sluice (process {pid or 'unknown'}). "
            "Stop that one first, or use another folder."
        )


class Supervisor:
    """Keeps ``children`` running. Their output goes to ``data/logs/NAME.log``, rotated at ``log_bytes``; ``data`` is
    locked against a second supervisor.

    Raises ``ValueError`` for names that repeat, that are not known, or that wait for each other.
    """

    def __init__(
        self, children: Sequence[Child], *, data: Path, log_bytes: int = LOG_BYTES, logs_kept: int = LOGS_KEPT
    ) -> None:
        _check(children)
        self._children = tuple(children)
        self._data = data
        self._log_bytes, self._logs_kept = log_bytes, logs_kept
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked_to_stop = asyncio.Event()
        self._lock: IO[str] | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked_to_stop.is_set()

    def status(self) -> list[ChildStatus]:
        """All children at this moment, in the order given; empty before :meth:`start`."""
        return [keeper.status() for keeper in self._keepers.values()]

    def request_stop(self) -> None:
        """Make :meth:`start` and :meth:`wait` return; asked a second time, kill all children at once."""
        if self.stopping:
            for keeper in self._keepers.values():
                keeper.kill()
        self._asked_to_stop.set()

    async def start(self) -> None:
        """Start all children, and return when all are ready, or when a stop was asked for meanwhile.

        Raises :class:`FolderInUse`; :class:`ChildFailed` for the first that does not come up, all others stopped then.
        """
        self._lock = _lock(self._data)
        for child in self._children:
            output = RotatedFile(self._data / "logs" / f"{child.name}.log", self._log_bytes, self._logs_kept)
            self._keepers[child.name] = Keeper(child, output)
        self._tasks = {
            child.name: asyncio.create_task(self._keep(child), name=f"keep {child.name}") for child in self._children
        }
        try:
            await self._first(self._all_ready())
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return when a stop is asked for. Raises :class:`ChildFailed` when a child dies too often to go on."""
        await self._first(asyncio.Event().wait())

    async def stop(self) -> None:
        """Stop all children, those first that nothing comes after; then let the folder go. Does nothing twice."""
        self._asked_to_stop.set()
        keepers = self._keepers
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        stopped = {name: asyncio.Event() for name in keepers}

        async def end(keeper: Keeper) -> None:
            for other in self._children:
                if keeper.child.name in other.after:
                    await stopped[other.name].wait()
            await keeper.stop()
            stopped[keeper.child.name].set()

        if self._lock is not None:
            await asyncio.gather(*(end(keeper) for keeper in keepers.values()))
            self._lock.close()
            self._lock = None

    async def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start, call ``on_ready``, go on until SIGINT, SIGTERM or SIGHUP, and stop; a second one kills all at once.

        Raises :class:`FolderInUse` and :class:`ChildFailed`, everything stopped then.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.request_stop)
        try:
            async with self:
                if on_ready is not None and not self.stopping:
                    on_ready()
                await self.wait()
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _keep(self, child: Child) -> None:
        for name in child.after:
            await self._keepers[name].ready.wait()
        await self._keepers[child.name].keep()

    async def _all_ready(self) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()

    async def _first(self, what: Awaitable[object]) -> None:
        """Return when ``what`` is done or a stop is asked for; raise what ended a child's keeping."""
        done = asyncio.ensure_future(what)
        asked = asyncio.ensure_future(self._asked_to_stop.wait())
        try:
            await asyncio.wait((done, asked, *self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)
            if not self.stopping:
                for task in self._tasks.values():
                    if task.done():
                        task.result()
        finally:
            for future in (done, asked):
                future.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await future


def _check(children: Sequence[Child]) -> None:
    names = [child.name for child in children]
    if len(set(names)) < len(names):
        raise ValueError(f"children's names repeat: {names}")
    for child in children:
        if unknown := set(child.after) - set(names):
            raise ValueError(f"{child.name} comes after children that are not there: {sorted(unknown)}")
    try:
        TopologicalSorter({child.name: child.after for child in children}).prepare()
    except CycleError as error:
        raise ValueError(f"children wait for each other: {' after '.join(error.args[1])}") from error


def _lock(data: Path) -> IO[str]:
    data.mkdir(parents=True, exist_ok=True)
    handle = (data / LOCK).open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        with handle:
            raise FolderInUse(data, handle.read().strip()) from error
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
