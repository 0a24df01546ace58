"""The trace of a mail: from its producer's, through compose, to each attempt; as an exporter gets it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.compose import Worker as ComposeWorker
from tests.support.deliver import Worker

from sluice.adapters.telemetry.sampling import FailuresAndAShare, Ration
from sluice.adapters.telemetry.tracing import OtelSpans, _context
from sluice.domain.errors import RuleError
from sluice.domain.smtp import Broken, Replied
from sluice.domain.topics import READY
from sluice.ports.intake import Taken
from sluice.ports.spans import Rested
from sluice.runtime.config import otlp_settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
WANTED = f"00-{TRACE}-00f067aa0ba902b7-01"
UNWANTED = f"00-{TRACE}-00f067aa0ba902b7-00"
NOBODY = Replied("rcpt", 550, "5.1.1 <m1@site.example>: no such user", "5.1.1")


class Heard:
    """Spans, and what was exported of them."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.spans = OtelSpans(Resource({"service.name": "test"}), self._exporter, sampler or FailuresAndAShare(1.0))

    def attempts(self) -> Sequence[ReadableSpan]:
        """Those of attempts, once the spans are closed."""
        return [span for span in self.all() if span.name == "smtp deliver"]

    def all(self) -> Sequence[ReadableSpan]:
        """Everything, once the spans are closed."""
        found = self._exporter.get_finished_spans()
        if not found:
            self.spans._provider.force_flush()
            found = self._exporter.get_finished_spans()
        return found


async def delivered(heard: Heard, traceparent: str | None = WANTED, *answers: Any) -> Worker:
    """A worker that tried one mail of the trace."""
    worker = Worker()
    worker.senders._attempts._spans = heard.spans
    if answers:
        worker.mailer.answer("m1@site.example", *answers)
    plain = worker.record(worker.envelope("m1"))
    headers = [*plain.headers, *([("traceparent", traceparent.encode())] if traceparent else [])]
    await worker.take(Taken(plain.topic, plain.partition, plain.offset, plain.key, plain.value, headers, 0.0))
    await worker.close()
    return worker


async def test_an_attempt_is_a_span_of_the_producers_trace_and_says_how_it_went() -> None:
    heard = Heard()
    await delivered(heard)
    (span,) = heard.attempts()
    assert (span.name, span.kind) == ("smtp deliver", SpanKind.CLIENT)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    attributes = dict(span.attributes or {})
    assert attributes["messaging.message.id"] == "m1"
    assert attributes["server.address"] == "mx.test"
    assert attributes["sluice.site"] == "site.example"
    assert (attributes["sluice.attempt"], attributes["sluice.smtp.code"]) == (1, 250)
    assert "error.type" not in attributes
    assert span.status.status_code is StatusCode.UNSET


async def test_a_failed_attempt_is_told_whatever_the_share_without_the_address_that_the_reply_quotes() -> None:
    heard = Heard(FailuresAndAShare(0.0))
    await delivered(heard, WANTED, NOBODY)
    (span,) = heard.attempts()
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == "invalid_recipient"
    assert attributes["sluice.rule"]
    assert (attributes["sluice.action"], attributes["sluice.smtp.phase"]) == ("bounce", "rcpt")
    assert span.status.status_code is StatusCode.ERROR
    assert "@" not in span.to_json()


async def test_a_host_that_cannot_be_reached_is_a_failed_attempt() -> None:
    heard = Heard(FailuresAndAShare(0.0))
    worker = Worker()
    worker.senders._attempts._spans = heard.spans
    worker.mailer.refuse("mx.test", Broken("connect", "timeout"))
    await worker.take(worker.record(worker.envelope("m1")))
    await worker.close()
    (span,) = heard.attempts()
    assert dict(span.attributes or {})["sluice.failure"] == "timeout"


async def test_what_a_producer_does_not_want_recorded_is_not_even_when_it_fails() -> None:
    heard = Heard()
    await delivered(heard, UNWANTED, NOBODY)
    assert heard.all() == ()


async def test_of_mails_that_succeed_a_share_is_told() -> None:
    heard = Heard(FailuresAndAShare(0.0))
    await delivered(heard)
    assert heard.all() == ()


async def test_the_parts_of_the_conversation_are_below_the_attempt() -> None:
    heard = Heard()
    await delivered(heard)
    (attempt,) = heard.attempts()
    parts = [span for span in heard.all() if span is not attempt]
    assert [span.name for span in parts] == ["smtp connect", "smtp dot"]
    assert all(span.parent is not None and span.parent.span_id == attempt.context.span_id for span in parts)
    assert dict(parts[0].attributes or {})["server.port"] == 25
    assert dict(parts[1].attributes or {})["sluice.smtp.code"] == 250


async def test_where_everything_fails_attempts_are_told_and_only_some_of_them_with_their_parts() -> None:
    heard = Heard(FailuresAndAShare(0.0))
    heard.spans._in_full = Ration(1)
    await delivered(heard, WANTED, NOBODY)
    await delivered(heard, WANTED, NOBODY)
    assert len(heard.attempts()) == 2
    assert [span.name for span in heard.all() if span.name != "smtp deliver"] == ["smtp connect", "smtp rcpt"]


async def test_an_outcome_names_the_span_of_its_attempt_where_that_is_exported() -> None:
    heard = Heard(FailuresAndAShare(0.0))
    failed = await delivered(heard, WANTED, NOBODY)
    (attempt,) = heard.attempts()
    (outcome,) = failed.outcomes("bounced")
    assert outcome.span_id == f"{attempt.context.span_id:016x}"
    (outcome,) = (await delivered(heard)).outcomes("delivered")
    assert outcome.span_id is None


@pytest.mark.parametrize(("reason", "told"), [("retry", 1), ("rate", 0)])
def test_the_wait_after_a_failure_is_told_whatever_the_share(reason: str, told: int) -> None:
    heard = Heard(FailuresAndAShare(0.0))
    heard.spans.rested(
        [("traceparent", WANTED.encode())], Rested("mail.wheel.5m", "mail.ready.high", reason, 100.0, 400.0, 400.5)
    )
    assert [span.name for span in heard.all()] == ["process mail.wheel.5m"] * told


def test_a_batch_without_exported_attempts_has_no_span() -> None:
    heard = Heard()
    heard.spans.recorded([], "mail.outcome", 100, 1.0, 2.0)
    assert heard.all() == ()


def test_a_collector_that_does_not_answer_does_not_keep_a_process_from_ending() -> None:
    """Exporters try again for half a minute, which is longer than a service has to stop."""
    held = threading.Event()

    class Stuck(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            held.wait(60)
            return SpanExportResult.FAILURE

    told = OtelSpans(Resource({}), Stuck(), FailuresAndAShare(1.0))
    composing = told.composing(WANTED, "mail.send.high", "m1", 1.0)
    assert composing is not None
    composing.end(["composed"], 2.0)
    began = time.monotonic()
    told.close()
    held.set()
    assert time.monotonic() - began < 30


async def test_composing_is_a_span_and_the_mails_go_on_in_it(tmp_path: Path) -> None:
    """So that an attempt's parent is the composing, and not the publishing."""
    heard = Heard()
    worker = ComposeWorker(tmp_path)
    worker.handler._spans = heard.spans
    await worker.send(worker.event(), headers=[("traceparent", WANTED.encode())])
    (span,) = heard.all()
    assert (span.name, span.kind) == ("process mail.send.normal", SpanKind.CONSUMER)
    attributes = dict(span.attributes or {})
    assert attributes["sluice.outcomes.composed"] == 1
    assert attributes["messaging.system"] == "kafka"
    (ready,) = worker.bus.all(READY["normal"])
    assert dict(ready.headers)["traceparent"].decode() == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert worker.only.trace_id == TRACE
    assert "@" not in span.to_json()


async def test_a_trace_that_nobody_hears_goes_on_as_it_came(tmp_path: Path) -> None:
    heard = Heard()
    worker = ComposeWorker(tmp_path)
    worker.handler._spans = heard.spans
    await worker.send(worker.event(), headers=[("traceparent", UNWANTED.encode())])
    assert heard.all() == ()
    (ready,) = worker.bus.all(READY["normal"])
    assert dict(ready.headers)["traceparent"].decode() == UNWANTED


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_what_is_left_out_at_a_glance_is_what_the_sampler_drops(share: float) -> None:
    """And whatever cannot be told at a glance is left to the sampler."""
    sampler, random = FailuresAndAShare(share), Random(7)
    for flags in ("00", "01", "03"):
        for _ in range(200):
            trace = f"{random.getrandbits(128) | 1:032x}"
            traceparent = f"00-{trace}-00f067aa0ba902b7-{flags}"
            decided = sampler.should_sample(_context(traceparent), int(trace, 16), "x")
            assert sampler.leaves(traceparent) == (not decided.decision.is_sampled())
    for odd in ("", "00", "x" * 55, "00-" + "z" * 52):
        assert not sampler.leaves(odd)


def test_nothing_is_exported_unless_an_endpoint_is_set() -> None:
    assert (otlp_settings({}).traces, otlp_settings({}).metrics) == (False, False)
    both = otlp_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    assert (both.traces, both.metrics, both.protocol) == (True, True, "http/protobuf")
    one = otlp_settings({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"})
    assert (one.traces, one.metrics) == (True, False)
    off = otlp_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_METRICS_EXPORTER": "none"})
    assert (off.traces, off.metrics) == (True, False)
    assert not otlp_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}).traces


def test_the_share_of_traces_is_the_standard_variables() -> None:
    assert otlp_settings({"OTEL_TRACES_SAMPLER_ARG": "0.25"}).share == 0.25
    assert otlp_settings({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "x"}).share is None
    with pytest.raises(RuleError, match="OTEL_TRACES_SAMPLER_ARG"):
        otlp_settings({"OTEL_TRACES_SAMPLER_ARG": "2"})
