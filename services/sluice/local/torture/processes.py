"""The processes of the laboratory: kept running as a supervisor would, and taken down, suspended and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sluice.runtime.child import Child, ChildFailed, ChildStatus, Restart
from sluice.runtime.childlog import RotatedFile
from sluice.runtime.keeper import Keeper

LOG_BYTES = 50 * 1024 * 1024
AGAIN = Restart(initial=0.3, longest=2.0, steady=5.0, quick_deaths=1_000_000_000)
"""A laboratory kills more often than any supervisor would forgive."""


class Processes:
    """Children by name. Nothing runs before :meth:`up`."""

    def __init__(self, children: Iterable[Child], logs: Path, unwatched: frozenset[str] = frozenset()) -> None:
        """``unwatched`` are not replaced for not answering."""
        self._children = {child.name: msgspec.structs.replace(child, restart=AGAIN) for child in children}
        for name in unwatched & self._children.keys():
            self._children[name] = msgspec.structs.replace(self._children[name], alive=None)
        self._logs = logs
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._suspended: set[str] = set()
        self._closing = False
        self.ended: dict[str, int] = {}
        """How often each was ended here; what died oftener died by itself."""
        self.died: dict[str, int] = {}
        """How often each has ended, by whomever, of those that were taken down or closed since."""

    def status(self) -> list[ChildStatus]:
        """Those that are up, or coming up."""
        return [keeper.status() for keeper in self._keepers.values()]

    def own_deaths(self) -> dict[str, int]:
        """How often processes ended that nobody had ended."""
        restarts = {name: self.died.get(name, 0) for name in self._children}
        for name, keeper in self._keepers.items():
            restarts[name] += keeper.status().restarts
        unasked = {name: count - self.ended.get(name, 0) for name, count in restarts.items()}
        return {name: count for name, count in unasked.items() if count > 0}

    async def up(self, *names: str) -> None:
        """Start processes side by side; return when all are ready. Raises :class:`ChildFailed`."""
        for name in names:
            self._start(name)
        await asyncio.gather(*(self.ready(name) for name in names))

    async def ready(self, name: str) -> None:
        """Return when a process is ready for the first time since :meth:`up`. Raises :class:`ChildFailed`."""
        waiting = asyncio.ensure_future(self._keepers[name].ready.wait())
        await asyncio.wait((waiting, self._tasks[name]), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._tasks[name].done():
            self._tasks[name].result()

    def bring_back(self, name: str) -> None:
        """Start a process, and go on trying until it comes up: what it needs may be hurt too."""
        if not self._closing and name not in self._keepers:
            self._start(name, stubborn=True)

    async def take_down(self, name: str, *, kill: bool = False) -> bool:
        """End a process and leave it down: by SIGKILL, or by SIGTERM. False when it was down."""
        keeper = self._keepers.pop(name, None)
        if keeper is None:
            return False
        self.resume(name)
        task = self._tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ChildFailed):
            await task
        if kill:
            keeper.kill()
        await keeper.stop()
        self.died[name] = self.died.get(name, 0) + keeper.status().restarts
        return True

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to a running process, which comes back by itself when it dies. False when it does not run."""
        pid = self._pid(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.ended[name] = self.ended.get(name, 0) + (number in (signal.SIGKILL, signal.SIGTERM))
            return True
        return False

    def suspend(self, name: str) -> bool:
        """SIGSTOP; False when it does not run."""
        done = self.signal(name, signal.SIGSTOP)
        if done:
            self._suspended.add(name)
        return done

    def resume(self, name: str) -> None:
        """SIGCONT, if suspended."""
        if name in self._suspended:
            self._suspended.discard(name)
            self.signal(name, signal.SIGCONT)

    async def close(self, parts: Sequence[str]) -> None:
        """Take everything down, ``parts`` last, in their order."""
        self._closing = True
        await asyncio.gather(*(self.take_down(name) for name in list(self._keepers) if name not in parts))
        for name in parts:
            await self.take_down(name)

    def _start(self, name: str, *, stubborn: bool = False) -> None:
        keeper = self._keeper(name)
        self._tasks[name] = asyncio.create_task(self._keep(name, keeper, stubborn=stubborn), name=f"keep {name}")

    def _keeper(self, name: str) -> Keeper:
        output = RotatedFile(self._logs / f"{name}.log", LOG_BYTES, 1)
        keeper = self._keepers[name] = Keeper(self._children[name], output)
        return keeper

    async def _keep(self, name: str, keeper: Keeper, *, stubborn: bool) -> None:
        while True:
            try:
                await keeper.keep()
            except ChildFailed:
                if not stubborn:
                    raise
                await asyncio.sleep(1.0)
                await keeper.stop()
                keeper = self._keeper(name)

    def _pid(self, name: str) -> int | None:
        keeper = self._keepers.get(name)
        return keeper.status().pid if keeper is not None else None
