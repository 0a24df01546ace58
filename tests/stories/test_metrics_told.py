"""What the services tell at ``/metrics`` after a few mails: plausible, complete, and no address in it."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.support.stack import Stack, wait_for

from sluice.ports.metrics import METRICS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def scrape(stack: Stack, name: str) -> str:
    """The text of one process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.local.ports[name]}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> list[Sample]:
    """Its samples."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def total(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have the labels."""
    return sum(
        sample.value for sample in samples(text) if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_a_few_mails_are_seen_in_the_metrics_of_every_service(stack: Stack) -> None:
    """Counted once each, with plausible times; every metric that is shown stands in the list, for that service."""
    delivered = [stack.send("high", to=[stack.address()]) for _ in range(3)]
    bounced = stack.send(to=[stack.address("+bounce")])
    deferred = stack.send(to=[stack.address("+defer1")])
    before = {name: scrape(stack, name) for name in ("compose-1", "deliver-1", "wheel-1", "record-1")}
    for message_id in (*delivered, deferred):
        stack.until(message_id, "delivered", timeout=60)
    stack.until(bounced, "bounced", timeout=60)

    def text_once(name: str, good: Callable[[str], bool]) -> str:
        return str(wait_for(lambda: scrape(stack, name), good, 30, f"the figures of {name}"))

    deliver = text_once("deliver-1", lambda text: total(text, "sluice_outcomes_total", type="delivered") >= 4)
    assert total(deliver, "sluice_outcomes_total", type="bounced", category="invalid_recipient") >= 1
    assert total(deliver, "sluice_outcomes_total", type="deferred") >= 1
    assert total(deliver, "sluice_put_off_total", reason="retry") >= 1
    assert total(deliver, "sluice_delivery_seconds_count", priority="high") >= 3
    assert 0 < total(deliver, "sluice_delivery_seconds_sum", priority="high") < 3 * 300
    assert total(deliver, "sluice_records_taken_total", topic="mail.ready.high") >= 3
    assert total(deliver, "sluice_connections_max") == stack.local.settings.connections
    assert total(deliver, "sluice_reference_age_seconds") < 60
    assert total(deliver, "sluice_live") == total(deliver, "sluice_ready") == 1

    compose = text_once("compose-1", lambda text: total(text, "sluice_lag_records") == 0)
    assert total(compose, "sluice_outcomes_total", type="composed") >= 5
    assert total(compose, "sluice_records_taken_total", topic="mail.send.high") >= 3
    assert total(compose, "sluice_records_published_total", topic="mail.ready.high") >= 3
    assert total(compose, "sluice_records_unfinished") == 0
    assert total(compose, "sluice_publish_ack_seconds_count") >= 1

    wheel = text_once("wheel-1", lambda text: total(text, "sluice_records_taken_total") >= 1)
    assert total(wheel, "sluice_records_published_total") >= 1
    assert total(wheel, "sluice_partitions") >= 8

    record = text_once("record-1", lambda text: total(text, "sluice_recorded_total") >= 15)
    assert total(record, "sluice_recorded_total", type="delivered") >= 4
    assert total(record, "sluice_record_store_seconds_count") >= 1
    assert total(record, "sluice_record_failures_total") == 0

    for name, text in {"compose-1": compose, "deliver-1": deliver, "wheel-1": wheel, "record-1": record}.items():
        service = name.removesuffix("-1")
        assert "@" not in text
        assert "story.example" not in text
        assert len(samples(text)) < 1500
        known = {metric.exported for metric in METRICS if service in metric.services}
        known |= {f"{metric}{part}" for metric in known for part in ("_bucket", "_sum", "_count")}
        told = {sample.name for sample in samples(text) if sample.name.startswith(("sluice_", "process_"))}
        assert told <= known
        assert total(text, "process_cpu_seconds_total") > total(before[name], "process_cpu_seconds_total") * 0.99
        assert total(text, "sluice_event_loop_delay_seconds_count") > 0
        assert total(text, "process_resident_memory_bytes") < total(text, "sluice_memory_limit_bytes")
        assert total(text, "process_open_fds") < total(text, "process_max_fds")
        assert 0 < total(text, "sluice_disk_free_bytes", folder="data") < total(text, "sluice_disk_size_bytes")
        assert total(text, "sluice_promise_seconds", priority="high") == stack.local.settings.promise_high_s
    assert total(compose, "sluice_dkim_keys", state="fresh") >= 1
    assert total(compose, "sluice_dkim_keys", state="missing") == 0
    assert total(compose, "sluice_dkim_key_due_seconds") > 0
