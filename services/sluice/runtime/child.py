"""What the supervisor is told about a child process, and what it tells about it."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from sluice.domain.errors import SluiceError

PROBE_TIMEOUT = 2.0
"""Seconds that one look at a child may take."""


class Port(msgspec.Struct, frozen=True):
    """Ready when something accepts connections at ``host:port``."""

    port: int
    host: str = "127.0.0.1"


class Url(msgspec.Struct, frozen=True):
    """Ready when a GET of ``url`` is answered with a 2xx."""

    url: str


Check = Callable[[], bool] | Callable[[], Awaitable[bool]]
"""Ready when it returns True. A plain function is called in a thread; what either raises counts as not ready."""

Ready = Port | Url | Check | None
"""How to know that a child is ready; None takes a started one for ready."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """What to do when a child dies that was ready once.

    It is started again after ``initial`` seconds, doubled at each death up to ``longest``. One that ran ``steady``
    seconds since it was last ready starts afresh. After ``quick_deaths`` deaths without that, the supervisor gives up.
    """

    initial: float = 0.5
    longest: float = 30.0
    steady: float = 60.0
    quick_deaths: int = 5

    def delay(self, deaths: int) -> float:
        """Seconds to wait after the ``deaths``-th quick death in a row (from 1)."""
        return min(self.longest, self.initial * 2.0 ** min(deaths - 1, 64))


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """How to know that a ready child still works: ``check`` every ``every`` seconds; ``misses`` in a row end it."""

    check: Ready
    every: float = 5.0
    misses: int = 6


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process to keep running. Times are seconds.

    ``env`` is added to the supervisor's own environment. ``after`` names children that must be ready before this one is
    started, and that are stopped after it. ``stop_timeout`` is how long it has from SIGTERM to SIGKILL. One that is not
    ``alive`` any more is ended and started again; None leaves it alone as long as it runs.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = {}
    cwd: Path | None = None
    ready: Ready = None
    ready_timeout: float = 60.0
    after: tuple[str, ...] = ()
    stop_timeout: float = 10.0
    restart: Restart = Restart()
    alive: Alive | None = None


State = Literal["waiting", "starting", "ready", "restarting", "stopping", "stopped", "failed"]
"""``waiting`` for what it comes after; ``restarting`` is the pause before it is started again."""


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A child at this moment. ``since`` is when it came into ``state``, seconds since the epoch."""

    name: str
    state: State
    since: float
    pid: int | None
    restarts: int
    log: Path
    last_exit: str | None = None
    """How it ended the last time: ``status 1``, ``signal SIGKILL``."""


class ChildFailed(SluiceError):
    """A child could not be started or kept running; ``name`` says which, the message ends with the tail of its log."""

    def __init__(self, name: str, reason: str, log: Path, log_tail: str) -> None:
        shown = "\n".join(f"  | {line}" for line in log_tail.splitlines()) or "  | (it printed nothing)"
        super().__init__(f"{name} {reason}. The end of its log, {log}:\n{shown}")
        self.name = name
        self.reason = reason


async def is_ready(check: Ready) -> bool:
    """Look once, for at most :data:`PROBE_TIMEOUT` seconds. Never raises for what the child does."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            match check:
                case None:
                    return True
                case Port(port, host):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return True
                case Url(url):
                    return await asyncio.to_thread(_answers, url)
                case _ if asyncio.iscoroutinefunction(check):
                    return bool(await check())
                case _:
                    return bool(await asyncio.to_thread(check))
    except Exception:
        # Whatever a look at an unfinished start raises, it is not ready.
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT):  # noqa: S310 -- the caller's own address
            return True
    except (OSError, urllib.error.URLError):
        return False
