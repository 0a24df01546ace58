"""The SDK against a real Kafka."""

import json

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.client import Client, NotPublished, Refused
from sluice.domain.idempotency import guard_partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MAIL = {"tenant_id": "acme", "to": [{"email": "jo@mail.example"}], "subject": "Grüße", "text": "Hi."}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    with EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka")) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        topics = [NewTopic(f"mail.send.{name}", 4, 1) for name in ("high", "normal")]
        topics.append(NewTopic("mail.send.bulk", 1, 1, config={"max.message.bytes": "20000"}))
        for created in admin.create_topics(topics).values():
            created.result(30)
        yield kafka


@pytest.fixture
def client(kafka):
    with Client(kafka.bootstrap, source="test") as client:
        yield client


def test_what_a_receipt_names_is_what_kafka_holds(kafka, client):
    receipt = client.send({**MAIL, "idempotency_key": "once"}, "high")
    assert receipt.partition == guard_partition("acme", "once", 4)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe(["mail.send.high"])
    record = consumer.poll(30)
    consumer.close()
    assert record is not None
    assert (record.partition(), record.offset()) == (receipt.partition, receipt.offset)
    assert json.loads(record.value())["subject"] == "Grüße"
    assert dict(record.headers())["ce_id"].decode() == receipt.message_id


def test_a_missing_topic_is_told_at_once(kafka):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics(["mail.send.high"])["mail.send.high"].result(30)
    with (
        Client(kafka.bootstrap, source="test") as client,
        pytest.raises(NotPublished, match="sluice topics apply") as caught,
    ):
        client.send(MAIL, "high")
    assert caught.value.certain


NOISE = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(40_000))


def test_what_is_larger_than_the_topic_takes_is_refused_and_the_stream_goes_on(kafka):
    with Client(kafka.bootstrap, source="test", batch_size=5000) as client:
        summary = client.send_many([MAIL, {**MAIL, "text": NOISE}, MAIL], "bulk")
        assert (summary.published, summary.refused, summary.failed) == (2, 1, 0)
        with pytest.raises(Refused, match="larger than"):
            client.send({**MAIL, "text": NOISE}, "bulk")


def test_small_mails_are_not_blamed_when_a_batch_is_larger_than_the_topic_takes(client):
    """The broker refuses the batch as a whole, and does not say which record made it too large."""
    summary = client.send_many([MAIL, {**MAIL, "text": NOISE}, MAIL], "bulk")
    assert (summary.published, summary.refused, summary.failed) == (0, 0, 3)
    assert all("batch_size" in reason for reason in summary.failures)


def test_a_long_stream_is_stored_to_the_last_event(kafka, client):
    summary = client.send_many({**MAIL, "to": [{"email": f"a@d{n % 50}.example"}]} for n in range(20_000))
    assert (summary.taken, summary.published) == (20_000, 20_000)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "count"})
    ends = [consumer.get_watermark_offsets(TopicPartition("mail.send.normal", n), timeout=10)[1] for n in range(4)]
    consumer.close()
    assert sum(ends) == 20_000
    assert all(ends)
