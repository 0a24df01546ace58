"""Keeps one child process running: starts it, waits until it is ready, starts it again when it dies, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

import structlog

from sluice.runtime.child import Child, ChildFailed, ChildStatus, State, is_ready
from sluice.runtime.childlog import RotatedFile, tail

log = structlog.get_logger(__name__)

LAUNCHER = Path(__file__).with_name("launch.py")
PROBE_PAUSE = 0.1
DRAIN = 1.0
"""Seconds to wait for the last output of a child that has ended."""
TAIL_LINES = 20


class Keeper:
    """One child. :meth:`keep` runs as a task for as long as the child is wanted, then :meth:`stop` ends it."""

    def __init__(self, child: Child, output: RotatedFile) -> None:
        self.child = child
        self.ready = asyncio.Event()
        """Set once the child was ready for the first time."""
        self._output = output
        self._process: Process | None = None
        self._drained: asyncio.Event | None = None
        self._state: State = "waiting"
        self._since = time.time()
        self._restarts = 0
        self._last_exit: str | None = None

    def status(self) -> ChildStatus:
        """The child at this moment."""
        return ChildStatus(
            name=self.child.name,
            state=self._state,
            since=self._since,
            pid=self._process.pid if self._process is not None else None,
            restarts=self._restarts,
            log=self._output.path,
            last_exit=self._last_exit,
        )

    async def keep(self) -> None:
        """Keep the child running until cancelled.

        Raises :class:`ChildFailed` when it cannot be started the first time, or dies too often later.
        """
        policy = self.child.restart
        deaths = 0
        while True:
            begun = time.monotonic()
            process = await self._start()
            trouble = await self._trouble_before_ready(process)
            if trouble is not None and not self.ready.is_set():
                await self._fail(trouble)
            if trouble is None:
                self._enter("ready")
                self.ready.set()
                log.info("child ready", child=self.child.name, pid=process.pid, seconds=_since(begun))
                began_steady = time.monotonic()
                trouble = await self._trouble(process)
                if time.monotonic() - began_steady >= policy.steady:
                    deaths = 0
            await self._clear()
            deaths += 1
            if deaths >= policy.quick_deaths:
                await self._fail(f"{trouble}, {deaths} times in a row without running {policy.steady:g} s")
            pause = policy.delay(deaths)
            log.warning("child died", child=self.child.name, how=trouble, again_in_seconds=pause)
            self._enter("restarting")
            await asyncio.sleep(pause)
            self._restarts += 1

    async def stop(self) -> None:
        """End the child: SIGTERM, SIGKILL after its ``stop_timeout``. After :meth:`keep` was cancelled or ended."""
        process = self._process
        if process is not None and process.returncode is None:
            self._enter("stopping")
            await self._end(process)
        await self._clear()
        if self._state != "failed":
            self._enter("stopped")
        self._output.close()

    def kill(self) -> None:
        """SIGKILL the child and what it started, now."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _start(self) -> Process:
        self._enter("starting")
        child = self.child
        reading, writing = os.pipe()
        self._drained = await _copy(reading, self._output)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *child.command),
                stdin=DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=child.cwd,
                # Python holds back what it prints into a pipe, and a crash would lose it.
                env={**os.environ, "PYTHONUNBUFFERED": "1", **child.env},
                # A ctrl-c on the terminal is for the supervisor, which ends its children in order.
                start_new_session=True,
            )
        finally:
            os.close(writing)
        return self._process

    async def _trouble_before_ready(self, process: Process) -> str | None:
        """None once the child is ready, or what became of it before."""
        deadline = time.monotonic() + self.child.ready_timeout
        ended = asyncio.ensure_future(process.wait())
        try:
            while time.monotonic() < deadline:
                # A look may take a while, and another program may answer in place of a child that ended meanwhile.
                if await is_ready(self.child.ready) and not ended.done():
                    return None
                await asyncio.wait((ended,), timeout=PROBE_PAUSE)
                if ended.done():
                    return f"ended with {_how(process)} before it was ready"
            return f"was not ready after {self.child.ready_timeout:g} s"
        finally:
            ended.cancel()

    async def _trouble(self, process: Process) -> str:
        """What became of a child that was ready: it ended, or was ended because it did not work any more."""
        alive = self.child.alive
        ended = asyncio.ensure_future(process.wait())
        misses = 0
        try:
            while True:
                await asyncio.wait((ended,), timeout=alive.every if alive else None)
                if ended.done():
                    return f"ended with {_how(process)}"
                misses = 0 if alive is None or await is_ready(alive.check) else misses + 1
                if alive is not None and misses >= alive.misses:
                    log.warning("child stalled", child=self.child.name, pid=process.pid, misses=misses)
                    await self._end(process)
                    return f"did not work at {misses} looks in a row and was ended"
        finally:
            ended.cancel()

    async def _end(self, process: Process) -> None:
        """SIGTERM; what has not ended in time is left to be killed."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.child.stop_timeout)
        except TimeoutError:
            log.warning("child killed: it did not stop in time", child=self.child.name, pid=process.pid)

    async def _fail(self, reason: str) -> None:
        await self._clear()
        self._enter("failed")
        log.error("child given up", child=self.child.name, reason=reason, log=str(self._output.path))
        raise ChildFailed(self.child.name, reason, self._output.path, tail(self._output.path, TAIL_LINES))

    async def _clear(self) -> None:
        """Leave nothing of a process behind: neither itself nor what it started, nor output not yet written."""
        process, drained = self._process, self._drained
        if process is None or drained is None:
            return
        self.kill()
        await process.wait()
        self._last_exit = _how(process)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drained.wait(), DRAIN)
        self._process = None

    def _enter(self, state: State) -> None:
        self._state = state
        self._since = time.time()


class _Copy(asyncio.Protocol):
    def __init__(self, output: RotatedFile) -> None:
        self.ended = asyncio.Event()
        self._output = output

    def data_received(self, data: bytes) -> None:
        self._output.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


async def _copy(reading: int, output: RotatedFile) -> asyncio.Event:
    """Copy what comes from a pipe into ``output``; the event is set at its end."""
    _, protocol = await asyncio.get_running_loop().connect_read_pipe(lambda: _Copy(output), os.fdopen(reading, "rb"))
    return protocol.ended


def _how(process: Process) -> str:
    code = process.returncode
    if code is None:
        return "no status"
    return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)
