"""Figures through OpenTelemetry: as Prometheus' text, and by OTLP where an endpoint is set.

OpenTelemetry's own counters and histograms cost ten to thirty microseconds each time. So everything is counted in plain
numbers and told by callbacks when somebody asks; a histogram, for which there is no callback, joins on the way out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.export import Metric as Exported
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, GCCollector, generate_latest

from sluice.domain.spread import Spread
from sluice.ports.metrics import METRICS, Figure, Metric

log = structlog.get_logger(__name__)
FRESH_S = 1.0
"""Figures are gathered once for all that is asked within this time."""
_SCOPE = "sluice"
_NOT_KNOWN: Any = None
"""The least and the greatest value of a histogram are not kept."""


class Meters:
    """Tells the figures that ``gather`` gives, which is called in the loop in which this was made, never elsewhere."""

    def __init__(
        self,
        service: str,
        resource: Resource,
        gather: Callable[[], Iterable[Figure]],
        exporter: MetricExporter | None = None,
        aside: Callable[[], Iterable[Figure]] = tuple,
    ) -> None:
        """``exporter`` is sent the figures every ``OTEL_METRIC_EXPORT_INTERVAL`` milliseconds.

        ``aside`` gives figures that take reading files: called in a thread that is not the loop's.
        """
        self._service = service
        self._gather = gather
        self._aside = aside
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._figures: dict[str, list[Figure]] = {}
        self._gathered_at = -FRESH_S
        self._since = time.time_ns()
        self._registry = CollectorRegistry()
        GCCollector(registry=self._registry)
        readers: list[MetricReader] = [_Prometheus(self._registry, self._spreads)]
        if exporter is not None:
            readers.append(PeriodicExportingMetricReader(_Joined(exporter, self._spreads)))
        self._provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        meter = self._provider.get_meter(_SCOPE)
        for metric in METRICS:
            if metric.kind == "counter":
                meter.create_observable_counter(metric.name, [self._told(metric)], metric.unit, metric.meaning)
            elif metric.kind == "gauge":
                meter.create_observable_gauge(metric.name, [self._told(metric)], metric.unit, metric.meaning)

    async def text(self) -> bytes:
        """All as Prometheus' text. The event loop only gathers; the rest happens in a thread."""
        self._refresh(await asyncio.to_thread(self._look_aside))
        return await asyncio.to_thread(generate_latest, self._registry)

    async def close(self) -> None:
        """Send what is due, and end."""
        await asyncio.to_thread(self._provider.shutdown, 3_000)

    def _look_aside(self) -> list[Figure]:
        try:
            return list(self._aside())
        except Exception as error:  # what the system tells differs; mail's figures are told whatever it does
            log.warning("figures.not_read", error=repr(error))
            return []

    def _refresh(self, aside: Iterable[Figure]) -> None:
        found: dict[str, list[Figure]] = {}
        for figure in chain(self._gather(), aside):
            found.setdefault(figure.metric.name, []).append(figure)
        self._figures = found
        self._gathered_at = time.monotonic()

    def _current(self, name: str) -> list[Figure]:
        if time.monotonic() - self._gathered_at > FRESH_S and threading.get_ident() != self._thread:
            asked = asyncio.run_coroutine_threadsafe(self._refreshed(self._look_aside()), self._loop)
            try:
                asked.result(FRESH_S)
            except Exception as error:  # a service that is ending, or a loop that stands: what was known is told
                asked.cancel()
                log.info("figures.not_gathered", error=repr(error))
                self._gathered_at = time.monotonic()
        return self._figures.get(name, [])

    async def _refreshed(self, aside: Iterable[Figure]) -> None:
        self._refresh(aside)

    def _told(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def tell(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(float(figure.value), self._attributes(figure))
                for figure in self._current(metric.name)
                if not isinstance(figure.value, Spread)
            ]

        return tell

    def _attributes(self, figure: Figure) -> dict[str, str]:
        return {"service": self._service, **dict(zip(figure.metric.labels, figure.labels, strict=True))}

    def _spreads(self) -> list[Exported]:
        """The histograms, in the form in which OpenTelemetry exports its own."""
        now = time.time_ns()
        found = [(metric, self._current(metric.name)) for metric in METRICS if metric.kind == "histogram"]
        return [self._exported(metric, figures, now) for metric, figures in found if figures]

    def _exported(self, metric: Metric, figures: Iterable[Figure], now: int) -> Exported:
        points = [self._point(figure, figure.value, now) for figure in figures if isinstance(figure.value, Spread)]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return Exported(metric.name, metric.meaning, metric.unit, data)

    def _point(self, figure: Figure, spread: Spread, now: int) -> HistogramDataPoint:
        counts = list(spread.counts)
        return HistogramDataPoint(
            attributes=self._attributes(figure),
            start_time_unix_nano=self._since,
            time_unix_nano=now,
            count=sum(counts),
            sum=spread.total,
            bucket_counts=counts,
            explicit_bounds=spread.bounds,
            min=_NOT_KNOWN,
            max=_NOT_KNOWN,
        )


def _joined(data: MetricsData, more: Sequence[Exported]) -> MetricsData:
    """The same with histograms beside what was observed."""
    resources = [
        dataclasses.replace(
            resource,
            scope_metrics=[
                dataclasses.replace(scope, metrics=[*scope.metrics, *more]) if scope.scope.name == _SCOPE else scope
                for scope in resource.scope_metrics
            ],
        )
        for resource in data.resource_metrics
    ]
    return dataclasses.replace(data, resource_metrics=resources)


class _Prometheus(PrometheusMetricReader):
    def __init__(self, registry: CollectorRegistry, more: Callable[[], Sequence[Exported]]) -> None:
        super().__init__(scope_info_enabled=False, registry=registry)
        self._more = more

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(_joined(metrics_data, self._more()), timeout_millis, **kwargs)


class _Joined(MetricExporter):
    """An exporter that sends the histograms too; they are cumulative, whatever it prefers."""

    def __init__(self, exporter: MetricExporter, more: Callable[[], Sequence[Exported]]) -> None:
        super().__init__()
        self._exporter = exporter
        self._more = more

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send."""
        return self._exporter.export(_joined(metrics_data, self._more()), timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what is held back."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End."""
        self._exporter.shutdown(timeout_millis, **kwargs)
