"""Spans through OpenTelemetry's SDK; an attempt's is made when it has ended, so that those which failed can be kept.

Names and attributes follow the semantic conventions for messaging, servers and TLS; what they have no name for begins
with ``sluice.``. No attribute holds an address, or a reply's text, which may quote one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from sluice.adapters.telemetry.logs import redact
from sluice.domain.mail import Envelope, Headers
from sluice.domain.outcome import OutcomeType
from sluice.domain.smtp import Broken, Replied
from sluice.ports.spans import Tried

ERROR = "error.type"
USUAL_SHARE = 0.01
"""Of the traces that their producers want recorded; attempts that fail are told whatever the share."""
CLOSE_WITHIN = 3.0
_W3C = TraceContextTextMapPropagator()
_LENGTH = 55
"""Of a ``traceparent`` of version 00: version, trace id, span id, flags."""


class FailuresAndAShare(Sampler):
    """Parent-based: nothing that the producer does not want, all that failed, and of the rest a share by trace id."""

    def __init__(self, share: float = USUAL_SHARE) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, kind: SpanKind | None = None,
        attributes: Attributes = None, links: Sequence[Link] | None = None, trace_state: TraceState | None = None,
    ) -> SamplingResult:  # fmt: skip
        """See :class:`Sampler`."""
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid and not parent.trace_flags.sampled:
            return SamplingResult(Decision.DROP, None, parent.trace_state)
        if attributes and ERROR in attributes:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)
        return self._share.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def leaves(self, traceparent: str) -> bool:
        """Whether a span that did not fail would be dropped: as :meth:`should_sample`, and forty times as fast."""
        if len(traceparent) != _LENGTH:
            return False
        try:
            wanted, number = int(traceparent[53:], 16) & 1, int(traceparent[19:35], 16)
        except ValueError:
            return False
        return not wanted or number >= self._share.bound

    def get_description(self) -> str:
        """What it is called."""
        return f"FailuresAndAShare{{{self._share.rate}}}"


class OtelSpans:
    """A :class:`sluice.ports.spans.Spans`. ``sampler`` None leaves it to ``OTEL_TRACES_SAMPLER``."""

    def __init__(self, resource: Resource, exporter: SpanExporter, sampler: Sampler | None) -> None:
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice")
        self._ours = sampler if isinstance(sampler, FailuresAndAShare) else None

    def composing(self, traceparent: str | None, topic: str, message_id: str, now: float) -> OtelComposing | None:
        """See :class:`sluice.ports.spans.Spans`."""
        if self._ours is not None and self._ours.leaves(traceparent or ""):
            return None
        span = self._tracer.start_span(
            f"process {topic}",
            _context(traceparent),
            SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": topic,
                "messaging.message.id": redact(message_id),
            },
            start_time=_nanoseconds(now),
        )
        return OtelComposing(span) if span.is_recording() else None

    def tried(self, headers: Headers, envelope: Envelope, tried: Tried) -> None:
        """See :class:`sluice.ports.spans.Spans`."""
        traceparent = next((value for name, value in headers if name == "traceparent"), b"").decode("ascii", "replace")
        if self._ours is not None and tried.verdict.action == "deliver" and self._ours.leaves(traceparent):
            return
        attributes = _attributes(envelope, tried)
        context = _context(traceparent)
        start, end = _nanoseconds(tried.started), _nanoseconds(tried.ended)
        span = self._tracer.start_span("smtp deliver", context, SpanKind.CLIENT, attributes, start_time=start)
        if ERROR in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what is left; blocks, for :data:`CLOSE_WITHIN` seconds at most.

        The exporter itself goes on trying for half a minute where nobody answers: its thread ends with the process.
        """
        ending = threading.Thread(target=self._provider.shutdown, name="spans-close", daemon=True)
        ending.start()
        ending.join(CLOSE_WITHIN)


class OtelComposing:
    """A :class:`sluice.ports.spans.Composing`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, outcomes: Sequence[OutcomeType], now: float) -> None:
        """See :class:`sluice.ports.spans.Composing`."""
        for kind, count in Counter(outcomes).items():
            self._span.set_attribute(f"sluice.outcomes.{kind}", count)
        self._span.end(_nanoseconds(now))


def _attributes(envelope: Envelope, tried: Tried) -> dict[str, str | int]:
    result, verdict, way = tried.result, tried.verdict, tried.way
    found: dict[str, str | int | None] = {
        "messaging.message.id": redact(envelope.message_id),
        "server.address": way.mx_host,
        "network.peer.address": way.mx_address,
        "tls.protocol.version": way.tls.version if way.tls else None,
        "sluice.site": envelope.site,
        "sluice.tenant": envelope.tenant_id,
        "sluice.priority": envelope.priority,
        "sluice.egress": way.egress,
        "sluice.attempt": tried.number,
        "sluice.action": verdict.action,
        "sluice.rule": verdict.rule,
        ERROR: None if verdict.action == "deliver" else verdict.category or verdict.action,
    }
    if isinstance(result, Replied):
        found |= {"sluice.smtp.code": result.code, "sluice.smtp.enhanced": result.enhanced}
    if isinstance(result, Replied | Broken):
        found["sluice.smtp.phase"] = result.phase
    if not isinstance(result, Replied):
        found["sluice.failure"] = result.reason
    return {name: value for name, value in found.items() if value is not None}


def _context(traceparent: str | None) -> Context:
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
