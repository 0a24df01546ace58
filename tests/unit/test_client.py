"""The SDK's client against the broker that librdkafka carries for tests: it speaks Kafka over loopback, in process."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import Consumer

from sluice.client import AsyncClient, Client, NotPublished, Refused
from sluice.domain.idempotency import guard_partition

MAIL = {"tenant_id": "acme", "to": [{"email": "jo@mail.example"}], "subject": "Hello", "text": "Hi."}


@pytest.fixture
def client():
    with Client("localhost:1", source="test", test_mock_num_brokers=1) as client:
        yield client


def _read(client, topic, count):
    """``count`` records of a topic, from its beginning."""
    brokers = client._producer.list_topics(timeout=10).brokers.values()
    consumer = Consumer(
        {
            "bootstrap.servers": ",".join(f"{broker.host}:{broker.port}" for broker in brokers),
            "group.id": "reader",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    records = []
    until = time.monotonic() + 30
    while len(records) < count and time.monotonic() < until:
        record = consumer.poll(0.2)
        if record is not None and record.error() is None:
            records.append(record)
    consumer.close()
    return records


def test_importing_the_client_brings_in_nothing_of_the_workers():
    """An upstream service installs three packages; whatever else is imported would have to be there as well."""
    code = (
        "import sys; before = set(sys.modules); import sluice.client; "
        "print('\\n'.join({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert foreign <= {"sluice", "confluent_kafka", "msgspec", "orjson", "typing_extensions"}


def test_a_sent_mail_is_where_the_receipt_says(client):
    receipt = client.send(MAIL, "high")
    (record,) = _read(client, "mail.send.high", 1)
    assert (receipt.topic, receipt.partition, receipt.offset) == ("mail.send.high", record.partition(), record.offset())
    assert record.key() == b"mail.example"
    assert json.loads(record.value()) == {**MAIL, "message_id": receipt.message_id}
    headers = dict(record.headers())
    assert headers["ce_id"] == receipt.message_id.encode()
    assert headers["ce_source"] == b"test"


def test_mails_of_one_domain_share_a_partition_unless_a_key_guards_them(client):
    plain = {client.send(MAIL).partition for _ in range(5)}
    assert len(plain) == 1
    partitions = client.partitions("mail.send.normal")
    for key in ("a", "b", "c", "d"):
        receipt = client.send({**MAIL, "idempotency_key": key})
        assert receipt.partition == guard_partition("acme", key, partitions)


def test_the_guarding_partition_is_fixed_for_good():
    """Other languages compute it too, and a change would let repeats through: these values must never change."""
    assert [guard_partition("acme", key, 16) for key in ("a", "order-A-10042-shipped", "订单")] == [0, 13, 5]
    with pytest.raises(ValueError, match="at least one"):
        guard_partition("acme", "a", 0)


def test_a_wrong_mail_is_refused_before_anything_is_published(client):
    with pytest.raises(Refused) as caught:
        client.send({**MAIL, "to": [{"email": 7}]})
    assert caught.value.field == "to[0].email"
    assert client.send(MAIL).offset == 0


def test_submit_returns_before_the_acknowledgement_and_the_future_knows(client):
    futures = [client.submit(MAIL) for _ in range(200)]
    assert client.flush() == 0
    assert sorted(future.result(0).offset for future in futures) == list(range(200))


def test_a_stream_is_published_counted_and_its_wrong_events_named(client):
    refused, seen = [], []

    def mails():
        for number in range(5000):
            if number == 17:
                yield {**MAIL, "to": [{"email": "jo@mail.example"}, {"email": 1}]}
            elif number == 18:
                yield b"{"
            elif number == 4000:
                yield {**MAIL, "to": [{"email": 1}]}
            else:
                yield {**MAIL, "metadata": {"n": str(number)}}

    summary = client.send_many(mails(), progress=seen.append, on_refused=refused.append)
    assert (summary.taken, summary.published, summary.refused, summary.failed) == (5000, 4997, 3, 0)
    assert [(refusal.index, refusal.field) for refusal in refused] == [
        (17, "to[1].email"),
        (18, "value"),
        (4000, "to[0].email"),
    ]
    assert summary.refusals["to[].email", "Expected `str`, got `int`"] == 2
    assert seen[-1].published == 4997
    assert summary.rate > 0


def test_a_full_queue_slows_the_stream_down_and_loses_nothing():
    with Client("localhost:1", source="test", test_mock_num_brokers=1, queue_buffering_max_messages=50) as client:
        summary = client.send_many(MAIL for _ in range(3000))
    assert (summary.taken, summary.published) == (3000, 3000)


def test_a_mail_larger_than_the_producer_takes_is_refused():
    with Client("localhost:1", source="test", test_mock_num_brokers=1, message_max_bytes=5000) as client:
        large = {**MAIL, "text": "x" * 6000}
        with pytest.raises(Refused, match=r"larger than mail\.send\.normal takes"):
            client.send(large)
        summary = client.send_many([MAIL, large, MAIL])
    assert (summary.published, summary.refused, summary.failed) == (2, 1, 0)
    assert summary.refusals == {("value", "the event is larger than mail.send.normal takes"): 1}


def test_threads_share_a_client(client):
    receipts = []

    def work():
        receipts.extend([client.send(MAIL) for _ in range(20)])

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({receipt.message_id for receipt in receipts}) == 100
    assert len({(receipt.partition, receipt.offset) for receipt in receipts}) == 100


def test_without_a_cluster_nothing_is_reported_as_published():
    client = Client("127.0.0.1:1", source="test", socket_connection_setup_timeout_ms=1000)
    with pytest.raises(NotPublished) as caught:
        client.partitions("mail.send.normal", timeout=0.2)
    assert caught.value.certain
    assert client.close(1.0) == 0


def test_a_closed_client_takes_nothing(client):
    client.send(MAIL)
    assert client.close() == 0
    assert client.close() == 0
    with pytest.raises(RuntimeError, match="closed"):
        client.send(MAIL)


async def test_the_asynchronous_client_publishes_concurrently():
    async with AsyncClient("localhost:1", source="test", test_mock_num_brokers=1) as client:
        receipts = await asyncio.gather(*(client.send({**MAIL, "idempotency_key": str(n)}) for n in range(100)))
        assert len({(receipt.partition, receipt.offset) for receipt in receipts}) == 100
        with pytest.raises(Refused):
            await client.send({**MAIL, "to": []})
        summary = await client.send_many([MAIL, {}, MAIL])
        assert (summary.published, summary.refused) == (2, 1)


async def test_the_asynchronous_client_waits_for_room():
    options = {"test.mock.num.brokers": 1, "queue.buffering.max.messages": 10}
    async with AsyncClient("localhost:1", source="test", **options) as client:
        receipts = await asyncio.gather(*(client.send(MAIL) for _ in range(200)))
    assert len(receipts) == 200
