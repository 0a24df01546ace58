"""A broker is away while a service reads back what it must know: it goes on where it stood, and hears nothing twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.ledger_log import KafkaLedgerLog
from sluice.adapters.kafka.reference import KafkaReference
from sluice.domain.catalogue import Catalogue
from sluice.domain.ledger import Entry
from sluice.domain.outcome import Source
from sluice.domain.topics import OUTCOME, SITES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COUNT = 20_000
NOBODY = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker with outcomes of about a kilobyte each: more than a reader fetches ahead."""
    with EmbeddedKafka.on_free_ports(tmp_path / "kafka") as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic(OUTCOME, 1, 1), NewTopic(SITES, 1, 1)]).values():
            future.result(30)
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for number in range(COUNT):
            entry = Entry("delivered", f"m{number}", Source("mail.ready.normal", 0, number, 0), 1, "x" * 1000)
            producer.produce(OUTCOME, msgspec.json.encode(entry), partition=0)
            if number % 5_000 == 0:
                producer.flush(30)
        assert producer.flush(60) == 0
        yield broker


def restart(kafka: EmbeddedKafka) -> threading.Thread:
    """Stop the broker now, and start it again in the background."""
    kafka.stop()
    again = threading.Thread(target=lambda: (time.sleep(1.0), kafka.start(120)))
    again.start()
    return again


async def test_a_broker_restarted_while_a_ledger_is_read_back_is_waited_for(kafka: EmbeddedKafka) -> None:
    heard: list[str] = []
    restarting: list[threading.Thread] = []

    def replay(entry: Entry) -> None:
        heard.append(entry.message_id)
        if len(heard) == 100:
            restarting.append(restart(kafka))

    log = KafkaLedgerLog({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "queued.max.messages.kbytes": 1024})
    count = await log.read_back(0, replay, lambda _: None)
    restarting[0].join(120)
    assert count == COUNT
    assert heard == [f"m{number}" for number in range(COUNT)]


async def test_a_broker_that_is_down_when_the_reading_begins_is_waited_for_and_told(kafka: EmbeddedKafka) -> None:
    restarting = restart(kafka)
    log = KafkaLedgerLog({"bootstrap.servers": kafka.bootstrap, "log_level": 0}, patience_s=100)
    reference = KafkaReference({"bootstrap.servers": kafka.bootstrap, "log_level": 0}, Catalogue(), (SITES,))
    reference.start()
    try:
        assert await log.read_back(0, lambda _: None, lambda _: None) == COUNT
        assert await asyncio.to_thread(reference.wait_loaded, 120)
    finally:
        reference.stop()
        restarting.join(120)


async def test_without_a_broker_the_reading_ends_within_its_patience() -> None:
    log = KafkaLedgerLog(NOBODY, patience_s=2.0)
    with structlog.testing.capture_logs() as lines, pytest.raises(KafkaException):
        await log.read_back(0, lambda _: None, lambda _: None)
    assert {line["event"] for line in lines} == {"reading.again"}
    assert lines[0]["what"] == "ledger of partition 0"
