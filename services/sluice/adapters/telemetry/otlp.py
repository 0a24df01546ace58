"""OTLP's exporters, of the package that the operator has installed; they read the standard OTEL_* variables."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from sluice.domain.errors import RuleError

EXTRA = "sluice-mail[otlp]"
GRPC = "opentelemetry-exporter-otlp-proto-grpc"


def span_exporter(protocol: str = "http/protobuf") -> SpanExporter:
    """An exporter of spans; raises :class:`RuleError` when there is none for the protocol."""
    exporter: SpanExporter = _load("traces", protocol)
    return exporter


def metric_exporter(protocol: str = "http/protobuf") -> MetricExporter:
    """An exporter of metrics; raises :class:`RuleError` when there is none for the protocol."""
    exporter: MetricExporter = _load("metrics", protocol)
    return exporter


def _load(signal: Literal["traces", "metrics"], protocol: str) -> Any:
    name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for found in entry_points(group=f"opentelemetry_{signal}_exporter", name=name):
        return found.load()()
    wanted = GRPC if protocol == "grpc" else EXTRA
    raise RuleError(f"OTEL_EXPORTER_OTLP_*: {wanted} is not installed: install it, or unset the endpoint")
