"""What a service shows at ``/metrics``: from counts in plain numbers to Prometheus' text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families
from tests.support.deliver import Worker, rules_with
from tests.support.figures import by_labels

from sluice.adapters.memory.outcomes import MemoryOutcomes
from sluice.adapters.telemetry.health import HealthServer
from sluice.adapters.telemetry.loop_delay import LoopDelay
from sluice.adapters.telemetry.meters import Meters
from sluice.adapters.telemetry.store import TimedStore
from sluice.adapters.telemetry.tally import CountingRecorder, OutcomeTally
from sluice.deliver.figures import lane_figures, waiting_figures
from sluice.deliver.item import Item
from sluice.domain.mail import read_mail
from sluice.domain.shaping import Rate
from sluice.domain.smtp import Replied
from sluice.domain.spread import Spread
from sluice.ports.health import Health
from sluice.ports.intake import Taken
from sluice.ports.metrics import DELIVERY, LIVE, METRICS, OUTCOMES, Figure
from sluice.runtime.config import load_settings
from sluice.runtime.telemetry import resource


def counting(worker: Worker, *sites: str) -> OutcomeTally:
    """Have a worker's outcomes counted."""
    tally = OutcomeTally(sites)
    worker.handler._books.recorder = CountingRecorder("test", b"key", tally)
    return tally


def test_every_metric_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 30
    assert len({metric.exported for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith(("sluice.", "process.")), metric
        assert metric.meaning, metric
        assert metric.answers.endswith("?"), metric
        assert bool(metric.bounds) == (metric.kind == "histogram"), metric
        assert list(metric.bounds) == sorted(metric.bounds), metric


async def test_figures_become_prometheus_text_under_the_names_of_the_list() -> None:
    """Each metric, so that the documents and the dashboard may trust :attr:`Metric.exported`."""
    spread = Spread((1.0, 10.0))
    spread.add(0.5)
    spread.add(70.0)

    def gather() -> Iterable[Figure]:
        for metric in METRICS:
            value = spread if metric.kind == "histogram" else 3.0
            yield Figure(metric, value, tuple(f"a-{label}" for label in metric.labels))

    meters = Meters("deliver", Resource({"service.name": "sluice-deliver"}), gather)
    text = (await meters.text()).decode()
    await meters.close()
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    for metric in METRICS:
        found = samples[f"{metric.exported}_count" if metric.kind == "histogram" else metric.exported]
        assert found.value == (2 if metric.kind == "histogram" else 3), metric
        assert found.labels == {"service": "deliver", **{label: f"a-{label}" for label in metric.labels}}
        if metric.kind == "histogram":
            assert samples[f"{metric.exported}_sum"].value == 70.5
    assert 'sluice_delivery_seconds_bucket{le="1.0",priority="a-priority",service="deliver"} 1.0' in text
    assert samples["target_info"].labels["service_name"] == "sluice-deliver"


def test_the_variables_of_opentelemetry_go_before_our_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(node="pod-1")
    told = resource("deliver", settings).attributes
    assert (told["service.name"], told["service.instance.id"]) == ("sluice-deliver", "pod-1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mail-out")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    told = resource("deliver", settings).attributes
    assert (told["service.name"], told["deployment.environment.name"]) == ("mail-out", "test")


async def test_the_health_server_tells_the_metrics() -> None:
    meters = Meters("wheel", Resource({}), lambda: [Figure(LIVE, True)])
    server = HealthServer(lambda: Health(True, True), "127.0.0.1", 0, meters.text)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            assert 'sluice_live{service="wheel"} 1.0' in await answer.text()
    finally:
        await server.stop()
        await meters.close()


async def test_what_is_exported_has_the_histograms_and_is_gathered_in_the_loop() -> None:
    """An exporter works in a thread of its own; figures are read where they are written."""
    sent: list[MetricsData] = []

    class Exporter(MetricExporter):
        def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:
            sent.append(metrics_data)
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 0) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
            return None

    loop = asyncio.get_running_loop()

    def gather() -> Iterable[Figure]:
        assert asyncio.get_running_loop() is loop
        spread = Spread(DELIVERY.bounds)
        spread.add(0.2)
        return [Figure(LIVE, True), Figure(DELIVERY, spread, ("high",))]

    meters = Meters("deliver", Resource({}), gather, Exporter())
    await meters.close()
    (scope,) = sent[-1].resource_metrics[0].scope_metrics
    found = {metric.name: metric.data.data_points for metric in scope.metrics}
    assert type(found["sluice.live"][0].value) is float  # OTLP knows no truth values
    assert found["sluice.live"][0].value == 1
    assert (found["sluice.delivery"][0].count, found["sluice.delivery"][0].attributes["priority"]) == (1, "high")


async def test_outcomes_are_counted_by_what_happened_and_why_and_time_by_where_it_went() -> None:
    worker = Worker()
    tally = counting(worker, "a.example", "b.example", "c.example")
    worker.mailer.answer("m2@b.example", Replied("rcpt", 550, "5.1.1 no such user here", "5.1.1"))
    worker.mailer.answer("m3@c.example", Replied("rcpt", 451, "4.7.1 greylisted, try again later", "4.7.1"))
    now = worker.clock.now()

    def to(domain: str, message_id: str, **given: Any) -> Taken:
        place = {"domain": domain, "site": domain, "lane": f"{domain}#0"}
        return worker.record(worker.envelope(message_id, **place, **given))

    await worker.take(
        to("a.example", "m1", priority="high", queued_at=now - 3, composed_at=now - 2),
        to("b.example", "m2"),
        to("c.example", "m3", priority="bulk"),
    )
    await worker.close()
    outcomes = by_labels(tally.figures(), "sluice.outcomes")
    assert outcomes["delivered", "", "high", "a.example"] == 1
    assert outcomes["bounced", "invalid_recipient", "normal", "b.example"] == 1
    assert sum(count for key, count in outcomes.items() if key[0] == "deferred") == 1
    assert sum(count for key, count in outcomes.items() if key[0] == "attempted") == 3
    assert by_labels(tally.figures(), "sluice.put.off") == {("bulk", "retry"): 1}
    assert by_labels(tally.figures(), "sluice.delivery") == {("high",): 1}
    waits = by_labels(tally.figures(), "sluice.delivery.waits")
    assert waits["high", "queue"] == pytest.approx(2, abs=0.01)
    assert waits["high", "retry"] == 0


async def test_why_a_mail_was_put_off_is_told_apart() -> None:
    """By the words that deliver itself writes: this fails when they change."""
    worker = Worker(rules=rules_with(rate=Rate(1, 3600.0)), patience=1.0)
    tally = counting(worker)
    await worker.take(*(worker.record(worker.envelope(f"m{n}")) for n in range(3)))
    assert by_labels(tally.figures(), "sluice.put.off")["normal", "site_rate"] >= 1
    waiting = worker.record(worker.envelope("m9"))
    item = Item(read_mail(waiting.headers, b""), waiting, lambda: None, worker.clock.now())
    worker.senders._attempts.throttled(item, worker.clock.now() + 60, "connection")
    worker.senders._attempts.throttled(item, worker.clock.now() + 60, "rate", "the tenant's rate")
    put_off = by_labels(tally.figures(), "sluice.put.off")
    assert (put_off["normal", "connection"], put_off["normal", "shared_limit"]) == (1, 1)
    await worker.close()


async def test_sites_that_the_rules_do_not_name_are_one() -> None:
    """Labels stay few, whatever domains mail goes to, and none of them is an address."""
    worker = Worker()
    tally = counting(worker, "google")
    records = [
        worker.record(worker.envelope(f"m{n}", domain=f"d{n}.example", site=f"d{n}.example", lane=f"d{n}.example#0"))
        for n in range(20)
    ]
    await worker.take(*records)
    outcomes = by_labels(tally.figures(), "sluice.outcomes")
    assert outcomes["delivered", "", "normal", "other"] == 20
    lanes = list(worker.handler.lanes.values())
    figures = list(lane_figures(lanes, frozenset({"google"}), worker.clock.now()))
    assert by_labels(figures, "sluice.lanes") == {("other",): 20}
    named = list(lane_figures(lanes, frozenset({"d1.example"}), worker.clock.now()))
    assert by_labels(named, "sluice.lanes") == {("other",): 19, ("d1.example",): 1}
    assert by_labels(named, "sluice.lane.connections.max").keys() == {("d1.example",)}
    assert not [label for figure in (*tally.figures(), *named) for label in figure.labels if "@" in label]
    await worker.close()


async def test_mails_in_hand_are_told_by_where_they_are() -> None:
    worker = Worker(rules=rules_with(connections=1))
    worker.mailer.hold = asyncio.Event()
    await worker.take(*(worker.record(worker.envelope(f"m{n}")) for n in range(3)))
    figures = list(waiting_figures(worker.handler.lanes.values(), worker.senders, worker.shared, unfinished=3))
    found = by_labels(figures, "sluice.waiting")
    assert sum(found.values()) == 3
    await worker.close()


async def test_a_store_is_timed_and_its_refusals_are_counted() -> None:
    store = MemoryOutcomes()
    timed = TimedStore(store)
    await timed.store("t1", [], [])
    figures = list(timed.figures())
    assert by_labels(figures, "sluice.record.store") == {(): 1}
    assert by_labels(figures, "sluice.record.failures") == {(): 0}


async def test_a_loop_that_stands_still_is_seen() -> None:
    delay = LoopDelay()
    delay.start()
    await asyncio.sleep(0.01)
    time.sleep(0.6)  # noqa: ASYNC251  to stand still is what is tested
    await asyncio.sleep(0.05)
    delay.stop()
    (figure,) = delay.figures()
    assert isinstance(figure.value, Spread)
    assert figure.value.total >= 0.3


def test_counting_is_cheap() -> None:
    """Far below OpenTelemetry's own instruments: a bound so loose that only a change in kind breaks it."""
    from datetime import UTC, datetime

    from sluice.domain.outcome import Outcome

    tally = OutcomeTally(["google"])
    outcome = Outcome(
        event_id="e", event_type="delivered", event_time=datetime.now(UTC), message_id="m", tenant_id="t",
        priority="normal", site="google", queued_at=datetime.now(UTC),
    )  # fmt: skip
    began = time.process_time()
    for _ in range(10_000):
        tally.add(outcome)
    assert (time.process_time() - began) / 10_000 < 50e-6
    assert by_labels(tally.figures(), OUTCOMES.name)["delivered", "", "normal", "google"] == 10_000
