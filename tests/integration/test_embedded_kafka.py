"""The embedded Kafka: real broker, real clients."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from sluice.adapters.embedded import jars
from sluice.adapters.embedded.kafka import LARGEST_RECORD, EmbeddedKafka, KafkaNotReady
from sluice.adapters.embedded.ports import PortTaken, free_port
from sluice.runtime.child import Child
from sluice.runtime.supervisor import Supervisor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    broker = EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


def create_topic(kafka: EmbeddedKafka, name: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, 2, 1, config=config)])[name].result(20)


def produce(kafka: EmbeddedKafka, topic: str, *values: bytes) -> list[KafkaError | None]:
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all", "message.max.bytes": LARGEST_RECORD})
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    return errors


def read(kafka: EmbeddedKafka, topic: str, count: int, group: str = "reader") -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes] = []
    while len(values) < count:
        message = consumer.poll(20)
        assert message is not None, f"only {len(values)} of {count} records came"
        assert message.error() is None
        values.append(message.value() or b"")
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


def test_what_is_produced_is_consumed(kafka: EmbeddedKafka) -> None:
    create_topic(kafka, "flow")
    assert produce(kafka, "flow", b"one", b"two", b"three") == [None] * 3
    assert read(kafka, "flow", 3) == [b"one", b"two", b"three"]


def test_a_record_as_large_as_the_largest_mail_passes(kafka: EmbeddedKafka) -> None:
    create_topic(kafka, "large")
    body = b"x" * (LARGEST_RECORD - 1024)
    assert produce(kafka, "large", body) == [None]
    assert read(kafka, "large", 1) == [body]


def test_a_topic_that_nobody_created_is_not_made_by_producing_to_it(kafka: EmbeddedKafka) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 2000})
    errors: list[KafkaError | None] = []
    producer.produce("nowhere", b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(10)
    assert [error is None for error in errors] == [False]
    assert "nowhere" not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics


@pytest.mark.parametrize("lasting", [True, False])
def test_java_compiles_a_second_time_in_a_lasting_broker_only(tmp_path: Path, lasting: bool) -> None:
    broker = EmbeddedKafka(tmp_path, free_port(), free_port(), lasting=lasting)
    broker.prepare()
    java, *options = broker.command()
    asked = [java, *(option for option in options if option.startswith("-X")), "-XX:+PrintFlagsFinal", "-version"]
    flags = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    level = next(flag for flag in flags if " TieredStopAtLevel " in flag)
    assert level.split("=")[1].split()[0] == ("4" if lasting else "1")


def test_it_listens_on_the_loopback_address_only(kafka: EmbeddedKafka) -> None:
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = [line.split()[3] for line in listening]
    ours = {address for address in addresses if address.endswith((f":{kafka.port}", f":{kafka.controller_port}"))}
    assert {address.rpartition(":")[0].removeprefix("[::ffff:").removesuffix("]") for address in ours} == {"127.0.0.1"}
    assert len(ours) == 2


def test_its_log_goes_to_the_file_it_was_given(kafka: EmbeddedKafka) -> None:
    text = kafka.log_file.read_text()
    assert "Kafka Server started" in text
    assert "KafkaConfig values" not in text


def test_records_and_offsets_survive_a_stop_a_crash_and_other_ports(tmp_path: Path) -> None:
    """The second and third broker are new objects on new ports with nothing but the folder in common."""
    with EmbeddedKafka.on_free_ports(tmp_path / "data") as first:
        create_topic(first, "kept")
        produce(first, "kept", b"one", b"two")
        assert read(first, "kept", 1)[:1] == [b"one"]
        cluster = AdminClient({"bootstrap.servers": first.bootstrap}).list_topics(timeout=10).cluster_id

    second = EmbeddedKafka.on_free_ports(tmp_path / "data")
    second.start()
    assert AdminClient({"bootstrap.servers": second.bootstrap}).list_topics(timeout=10).cluster_id == cluster
    produce(second, "kept", b"three")
    second.kill()

    with EmbeddedKafka.on_free_ports(tmp_path / "data") as third:
        assert read(third, "kept", 3, group="another") == [b"one", b"two", b"three"]
        consumer = Consumer({"bootstrap.servers": third.bootstrap, "group.id": "reader"})
        assert consumer.committed([TopicPartition("kept", 0)], timeout=10)[0].offset >= 1
        consumer.close()


async def test_it_runs_under_the_supervisor_with_its_log_in_the_log_folder(tmp_path: Path) -> None:
    kafka = EmbeddedKafka.on_free_ports(tmp_path / "kafka")
    await asyncio.to_thread(kafka.prepare)
    child = Child(name="kafka", command=kafka.command(), ready=kafka.is_ready, stop_timeout=20)
    async with Supervisor([child], data=tmp_path) as supervisor:
        await asyncio.to_thread(create_topic, kafka, "supervised")
    # Java answers SIGTERM with an orderly end and 128 + 15.
    assert [status.last_exit for status in supervisor.status()] == ["status 143"]
    assert "Kafka Server started" in (tmp_path / "logs" / "kafka.log").read_text()


def test_processes_that_prepare_one_folder_at_once_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sluice.adapters.embedded.kafka import EmbeddedKafka;"
        "k = EmbeddedKafka.on_free_ports(Path(sys.argv[1])); k.prepare(); print(k.command()[-1])"
    )

    def prepare(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(prepare, range(2)))
    assert [result.returncode for result in results] == [0, 0], results
    assert results[0].stdout.splitlines()[-1] == results[1].stdout.splitlines()[-1]
    identifier = (tmp_path / "cluster-id").read_text().strip()
    assert f"cluster.id={identifier}" in (tmp_path / "log" / "meta.properties").read_text()


def test_a_taken_port_is_named_with_a_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .*taken.*another port") as raised:
            EmbeddedKafka(tmp_path, port, free_port()).start()
    assert raised.value.port == port


def test_a_broker_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    kafka = EmbeddedKafka.on_free_ports(tmp_path)
    kafka.prepare()
    meta = tmp_path / "log" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(KafkaNotReady, match=r"(?s)ended with status 1.*node") as raised:
        kafka.start()
    assert "7" in str(raised.value)


def test_no_network_and_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nothing listens on stands for a machine without network."""
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(jars, "ATTEMPTS", 1)
    with pytest.raises(jars.JarsNotFetched, match=r"cannot fetch Apache Kafka.*needs the network.*Kafka of your own"):
        jars.ensure_jars(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kafka.lock"]
