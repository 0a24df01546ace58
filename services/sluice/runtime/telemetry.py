"""What a service shows of itself, put together: its figures at ``/metrics`` and by OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from sluice.adapters.system.machine import Machine
from sluice.adapters.telemetry import otlp
from sluice.adapters.telemetry.loop_delay import LoopDelay
from sluice.adapters.telemetry.meters import Meters
from sluice.adapters.telemetry.sampling import USUAL_SHARE, FailuresAndAShare
from sluice.adapters.telemetry.tracing import OtelSpans
from sluice.domain.rotation import DAY
from sluice.ports.health import Health
from sluice.ports.metrics import LIVE, PROMISE, READY, Figure
from sluice.runtime.config import Settings, otlp_settings
from sluice.runtime.renewals import Certificates, certificate_files, look_again


class Telemetry:
    """Of one process, in its event loop."""

    def __init__(
        self, name: str, settings: Settings, health: Callable[[], Health], figures: Callable[[], Iterable[Figure]]
    ) -> None:
        """Raises :class:`sluice.domain.errors.RuleError` when metrics are to go where nothing can send them."""
        self._health = health
        self._figures = figures
        self._delay = LoopDelay()
        target = otlp_settings()
        exporter = otlp.metric_exporter(target.protocol) if target.metrics else None
        self._promises = _promises(settings)
        self._certificates = Certificates(certificate_files(settings))
        self._looking: asyncio.Task[None] | None = None
        machine = Machine(watched_disks(settings))
        self._meters = Meters(name, resource(name, settings), self._gather, exporter, machine.figures)

    def start(self) -> None:
        """Begin to look at the event loop, and every day at certificates."""
        self._delay.start()
        self._looking = asyncio.create_task(look_again(self._certificates, DAY))

    async def text(self) -> bytes:
        """All figures as Prometheus' text."""
        return await self._meters.text()

    async def close(self) -> None:
        """Send what is due, and end."""
        self._delay.stop()
        if self._looking is not None:
            self._looking.cancel()
        await self._meters.close()

    def _gather(self) -> Iterator[Figure]:
        health = self._health()
        yield Figure(LIVE, health.live)
        yield Figure(READY, health.ready and health.live)
        yield from self._promises
        yield from self._certificates.figures()
        yield from self._delay.figures()
        yield from self._figures()


def watched_disks(settings: Settings) -> dict[str, Path]:
    """Folders whose disks are watched besides the working and the temporary one, by the name they are told under."""
    pairs = (part.partition("=") for part in settings.disks.split(",") if part.strip())
    return {name.strip(): Path(folder.strip()) for name, _, folder in pairs}


def _promises(settings: Settings) -> list[Figure]:
    promised = {
        "high": settings.promise_high_s,
        "normal": settings.promise_normal_s,
        "bulk": settings.promise_bulk_s,
    }
    return [Figure(PROMISE, seconds, (priority,)) for priority, seconds in promised.items()]


def spans(name: str, settings: Settings) -> OtelSpans | None:
    """Where a service tells its spans, None when they go nowhere; raises :class:`sluice.domain.errors.RuleError`."""
    target = otlp_settings()
    if not target.traces:
        return None
    sampler = None if target.sampler else FailuresAndAShare(USUAL_SHARE if target.share is None else target.share)
    return OtelSpans(resource(name, settings), otlp.span_exporter(target.protocol), sampler)


def resource(name: str, settings: Settings) -> Resource:
    """Who tells; ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` add to it and go before it."""
    own = {"service.name": f"sluice-{name}", "service.instance.id": settings.node, "service.version": _version()}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _version() -> str:
    try:
        return version("sluice-mail")
    except PackageNotFoundError:
        return "unknown"
