"""What Kafka cannot keep is not called stored: too few copies in sync, and a disk that is full."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.small_disk import make_room, small_disk
from tests.support.stack import wait_for

from sluice.adapters.embedded.jars import Progress, default_cache, ensure_jars
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.embedded.ports import free_port
from sluice.client import Client, NotPublished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MAIL = {"tenant_id": "acme", "to": [{"email": "jo@mail.example"}], "subject": "Hello", "text": "Hi."}
TOPIC = "mail.send.normal"


def create(kafka: EmbeddedKafka, replication: int = 1, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(TOPIC, 1, replication, config=config)])[TOPIC].result(30)


def stored(kafka: EmbeddedKafka) -> dict[int, str]:
    """Message ids in the log, by offset."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test", "enable.auto.commit": False})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30)
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        found: dict[int, str] = {}
        deadline = time.monotonic() + 60
        while len(found) < end and time.monotonic() < deadline:
            for record in consumer.consume(500, timeout=0.5):
                assert record.error() is None, record.error()
                found[record.offset() or 0] = json.loads(record.value() or b"{}")["message_id"]
        return found
    finally:
        consumer.close()


class SecondBroker(EmbeddedKafka):
    """One more broker of a cluster whose only controller is ``first``."""

    def __init__(self, data: Path, first: EmbeddedKafka) -> None:
        super().__init__(data, free_port(), first.controller_port)
        self._first = first

    def prepare(self, progress: Progress | None = None) -> None:
        self._jars = ensure_jars(default_cache(), progress)
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "cluster-id").write_text((self._first.data / "cluster-id").read_text())
        self._write_settings()
        settings = self._settings.read_text()
        settings = settings.replace("process.roles=broker,controller\nnode.id=1", "process.roles=broker\nnode.id=2")
        controller = f",CONTROLLER://127.0.0.1:{self.controller_port}"
        self._settings.write_text(settings.replace(controller, ""))
        if not (self.data / "log" / "meta.properties").exists():
            self._format()


def test_with_too_few_copies_in_sync_nothing_is_accepted(tmp_path: Path) -> None:
    """A topic that is to be in two brokers, of which one dies."""
    with EmbeddedKafka.on_free_ports(tmp_path / "first") as kafka:
        second = SecondBroker(tmp_path / "second", kafka)
        second.start()
        try:
            wait_for(lambda: brokers(kafka), lambda count: count == 2, 60, "the second broker")
            create(kafka, 2, **{"min.insync.replicas": "2"})
            with Client(kafka.bootstrap, source="test", message_timeout_ms=8000) as client:
                receipt = client.send(MAIL)
                second.kill()
                wait_for(lambda: refused(client), bool, 60, "a refusal")
                second.start()
                wait_for(lambda: not refused(client), bool, 60, "mail to be taken again")
            assert stored(kafka)[receipt.offset] == receipt.message_id
        finally:
            second.stop()


def brokers(kafka: EmbeddedKafka) -> int:
    return len(AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).brokers)


def refused(client: Client) -> bool:
    try:
        client.send(MAIL)
    except NotPublished:
        return True
    return False


def test_when_the_brokers_disk_is_full_what_was_accepted_is_there_and_nothing_else_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "24m"):
        kafka = EmbeddedKafka.on_free_ports(disk / "kafka")
        kafka.start()
        try:
            create(kafka)
            receipts: dict[int, str] = {}
            client = Client(kafka.bootstrap, source="test", message_timeout_ms=6000)
            refusal: NotPublished | None = None
            for _ in range(400):
                try:
                    receipt = client.send({**MAIL, "text": os.urandom(60_000).hex()})
                except NotPublished as error:
                    refusal = error
                    break
                receipts[receipt.offset] = receipt.message_id
            client.close(5)
            assert refusal is not None, "24 MB took 400 mails of 120 kB"
            assert not refusal.certain, "the broker may have stored it before it failed"
            assert len(receipts) > 20
            # The operator makes room, and starts the broker again.
            make_room(disk, "200m")
            kafka.stop()
            kafka.start()
            found = stored(kafka)
            assert receipts.items() <= found.items(), "what was acknowledged is not in the log"
            with Client(kafka.bootstrap, source="test") as again:
                assert again.send(MAIL).offset == len(found)
        finally:
            kafka.stop()
