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
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sluice.adapters.telemetry.attempts import attempt_attributes, part_span
from sluice.adapters.telemetry.logs import redact
from sluice.adapters.telemetry.sampling import ERROR, FOLLOWS, FailuresAndAShare, Ration
from sluice.domain.mail import Envelope, Headers
from sluice.domain.outcome import Outcome, OutcomeType
from sluice.ports.spans import Rested, Tried

CLOSE_WITHIN = 3.0
_W3C = TraceContextTextMapPropagator()
_MOST_LINKS = 128
"""As many as a span keeps by default."""


class OtelSpans:
    """A :class:`sluice.ports.spans.Spans`. ``sampler`` None leaves it to ``OTEL_TRACES_SAMPLER``."""

    def __init__(self, resource: Resource, exporter: SpanExporter, sampler: Sampler | None) -> None:
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice")
        self._ours = sampler if isinstance(sampler, FailuresAndAShare) else None
        self._in_full = Ration()

    def composing(self, traceparent: str | None, topic: str, message_id: str, now: float) -> OtelComposing | None:
        """See :class:`sluice.ports.spans.Spans`."""
        if self._leaves(traceparent or ""):
            return None
        attributes = {**_messaging("process", topic), "messaging.message.id": redact(message_id)}
        span = self._tracer.start_span(
            f"process {topic}", _context(traceparent), SpanKind.CONSUMER, attributes, start_time=_nanoseconds(now)
        )
        return OtelComposing(span) if span.is_recording() else None

    def tried(self, headers: Headers, envelope: Envelope, tried: Tried) -> str | None:
        """See :class:`sluice.ports.spans.Spans`."""
        traceparent = _traceparent(headers)
        usual = self._ours is None or not self._leaves(traceparent)
        if not usual and tried.verdict.action == "deliver":
            return None
        attributes = attempt_attributes(envelope, tried)
        began = min(tried.started, tried.parts[0].began) if tried.parts else tried.started
        span = self._tracer.start_span(
            "smtp deliver", _context(traceparent), SpanKind.CLIENT, attributes, start_time=_nanoseconds(began)
        )
        if not span.is_recording():
            return None
        if ERROR in attributes:
            span.set_status(StatusCode.ERROR)
        if usual or self._in_full.take(tried.ended):
            inside = set_span_in_context(span, Context())
            for part in tried.parts:
                name, kind, told = part_span(part)
                child = self._tracer.start_span(name, inside, kind, told, start_time=_nanoseconds(part.began))
                if not part.well:
                    child.set_status(StatusCode.ERROR)
                child.end(_nanoseconds(part.ended))
        span.end(_nanoseconds(tried.ended))
        return f"{span.get_span_context().span_id:016x}"

    def rested(self, headers: Headers, rested: Rested) -> None:
        """See :class:`sluice.ports.spans.Spans`."""
        traceparent = _traceparent(headers)
        attributes: dict[str, str | float] = {
            **_messaging("process", rested.topic),
            "sluice.waited_for": rested.reason,
            "sluice.late_seconds": round(max(0.0, rested.until - rested.due), 3),
            "sluice.returned_to": rested.to,
        }
        if self._leaves(traceparent):
            if rested.reason != "retry" or not self._in_full.take(rested.until):
                return
            attributes[FOLLOWS] = "failure"
        span = self._tracer.start_span(
            f"process {rested.topic}", _context(traceparent), SpanKind.CONSUMER, attributes,
            start_time=_nanoseconds(min(rested.since, rested.until)),
        )  # fmt: skip
        span.end(_nanoseconds(rested.until))

    def recorded(self, outcomes: Sequence[Outcome], topic: str, count: int, began: float, ended: float) -> None:
        """See :class:`sluice.ports.spans.Spans`."""
        attempts = [place for outcome in outcomes if (place := _place(outcome)) is not None]
        if not attempts:
            return
        batch = self._tracer.start_span(
            f"process {topic}", Context(), SpanKind.CONSUMER,
            {**_messaging("process", topic), "messaging.batch.message_count": count, FOLLOWS: "attempts"},
            links=[Link(place) for place in attempts[:_MOST_LINKS]], start_time=_nanoseconds(began),
        )  # fmt: skip
        met = [Link(batch.get_span_context())]
        for place in attempts:
            _record_span(self._tracer, topic, place, met, began, ended)
        batch.end(_nanoseconds(ended))

    def _leaves(self, traceparent: str) -> bool:
        return self._ours is not None and self._ours.leaves(traceparent)

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


def _record_span(
    tracer: Tracer, topic: str, place: SpanContext, met: Sequence[Link], began: float, ended: float
) -> None:
    """The end of a mail's own trace: its outcome is stored, with those of the batch that is linked to."""
    span = tracer.start_span(
        f"process {topic}", set_span_in_context(NonRecordingSpan(place), Context()), SpanKind.CONSUMER,
        {**_messaging("process", topic), FOLLOWS: "attempt"}, links=met, start_time=_nanoseconds(began),
    )  # fmt: skip
    span.end(_nanoseconds(ended))


def _messaging(operation: str, topic: str) -> dict[str, str]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def _place(outcome: Outcome) -> SpanContext | None:
    """Of the attempt that an outcome is of; None where it says none, as ninety-nine in a hundred do."""
    if outcome.span_id is None or outcome.trace_id is None:
        return None
    try:
        trace, span = int(outcome.trace_id, 16), int(outcome.span_id, 16)
    except ValueError:
        return None
    place = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return place if place.is_valid else None


def _traceparent(headers: Headers) -> str:
    return next((value for name, value in headers if name == "traceparent"), b"").decode("ascii", "replace")


def _context(traceparent: str | None) -> Context:
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
