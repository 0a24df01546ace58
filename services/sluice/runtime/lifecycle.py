"""From a service's opening to its clean stop: signals, health, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog
import uvloop

from sluice.adapters.telemetry.health import HealthServer
from sluice.adapters.telemetry.logs import set_up_logs
from sluice.domain.errors import SluiceError
from sluice.ports.health import Health
from sluice.ports.metrics import Figure
from sluice.runtime.config import Settings, load_settings
from sluice.runtime.stall import LoopWatch, Stalled
from sluice.runtime.telemetry import Telemetry

log = structlog.get_logger(__name__)
THREADS_TURN_S = 0.001
"""Seconds for which a thread that computes lets others wait. Records are fetched and acknowledged on threads beside the
loop's: each of their small steps would wait Python's usual 5 ms for a loop that is busy with a backlog."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
STALL_GRACE_S = 30.0
"""From the moment that a service is found stalled to its end: whoever looks at its health sees it, and why."""


class Service(Protocol):
    """One of Sluice's services, opened and running."""

    @property
    def health(self) -> Health:
        """How it is."""
        ...

    def figures(self) -> Iterable[Figure]:
        """What it counts, of :data:`sluice.ports.metrics.METRICS`."""
        ...

    async def start(self) -> None:
        """Join and begin; returns when it works."""
        ...

    async def failed(self) -> BaseException:
        """Wait until it cannot go on; returns why."""
        ...

    async def stop(self) -> None:
        """Finish or hand back what is in hand, within the drain time."""
        ...


Opener = Callable[[Settings], Awaitable[Service]]


def run_service(name: str, open_service: Opener) -> int:
    """Run a service until SIGTERM, SIGINT or its failure; returns the process's exit code."""
    try:
        settings = load_settings()
    except SluiceError as error:
        print(f"sluice {name}: {error}", file=sys.stderr)  # noqa: T201  logs are not configured yet
        return EXIT_USAGE
    set_up_logs(name, settings.node, level=settings.log_level, form=settings.log_format)
    sys.setswitchinterval(THREADS_TURN_S)
    return uvloop.run(_serve(name, settings, open_service))


async def _serve(name: str, settings: Settings, open_service: Opener) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        service = await open_service(settings)
        telemetry = Telemetry(name, settings, lambda: service.health, lambda: service.figures())
    except SluiceError as error:
        log.error("service.not_opened", error=str(error))
        return EXIT_USAGE
    watch = LoopWatch(settings.stall_s)
    watch.start()
    telemetry.start()
    server = HealthServer(lambda: service.health, settings.health_host, settings.health_port, telemetry.text)
    if settings.health_port:
        await server.start()
    code = EXIT_OK
    try:
        starting = asyncio.ensure_future(service.start())
        stopping = asyncio.ensure_future(stop.wait())
        failing = asyncio.ensure_future(_failed_or_stalled(service))
        await asyncio.wait({starting, stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not starting.exception():
            _settle_collector()
            log.info("service.started", port=server.port)
            await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        failure = starting.exception() if starting.done() else None
        if failure is None and failing.done():
            failure = failing.result()
        if failure is not None:
            log.error("service.failed", error=repr(failure))
            code = EXIT_FAILED
        for task in (starting, stopping, failing):
            task.cancel()
        log.info("service.stopping")
        watch.end_within(settings.drain_s + 20)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.stop(), settings.drain_s + 5)
    finally:
        await telemetry.close()
        await server.stop()
    log.info("service.stopped", code=code)
    return code


async def _failed_or_stalled(service: Service) -> BaseException:
    """Wait until the service cannot go on, or has said for a while that it does not; returns why."""
    failing = asyncio.ensure_future(service.failed())
    told_at: float | None = None
    try:
        while True:
            await asyncio.wait((failing,), timeout=1.0)
            if failing.done():
                return failing.result()
            health = service.health
            if health.live:
                told_at = None
            elif told_at is None:
                told_at = time.monotonic()
                log.error("service.stalled", reason=health.reason, ends_in_seconds=STALL_GRACE_S)
            elif time.monotonic() - told_at > STALL_GRACE_S:
                return Stalled(health.reason)
    finally:
        failing.cancel()


def _settle_collector() -> None:
    """What was made at start stays: do not walk it again at every collection. Saves a quarter of record's CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
