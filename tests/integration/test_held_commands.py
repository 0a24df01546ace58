"""Held mails on a real Kafka: listed, released once however often it is said, dropped with who and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.support.deliver import Worker
from typer.testing import CliRunner

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.commands.root import app
from sluice.domain.outcome import Outcome, decode_outcome
from sluice.domain.topics import DEAD, OUTCOME, READY
from sluice.ports.bus import Record
from sluice.ports.held import held_record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka"))
    broker.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_KAFKA_BOOTSTRAP", broker.bootstrap)
        assert run("topics", "apply").exit_code == 0
        yield broker.bootstrap
    broker.stop()
    structlog.reset_defaults()


def run(*arguments: str, answer: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=answer)


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def hold(bootstrap: str, *names: str, **envelope: Any) -> None:
    """Put mails among the dead letters as deliver does."""
    worker = Worker()
    producer = Producer({"bootstrap.servers": bootstrap})
    for name in names:
        record: Record = held_record(worker.record(worker.envelope(name, in_doubt="hold", **envelope)), "no reply")
        producer.produce(DEAD, record.value, record.key, headers=list(record.headers))
    assert producer.flush(20) == 0


def stored(bootstrap: str, *topics: str) -> list[Any]:
    """Everything that some topics hold."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "enable.partition.eof": True})
    parts = [TopicPartition(topic, number, 0) for topic in topics for number in range(4)]
    consumer.assign(parts)
    found, ended = [], 0
    try:
        while ended < len(parts):
            message = consumer.poll(20)
            assert message is not None
            if message.error() is None:
                found.append(message)
            else:
                ended += 1
        return found
    finally:
        consumer.close()


def outcomes(bootstrap: str, mail: str) -> list[Outcome]:
    every = [decode_outcome(message.value()) for message in stored(bootstrap, OUTCOME)]
    return [outcome for outcome in every if outcome.message_id == mail]


def lane(bootstrap: str, mail: str) -> list[Any]:
    """Copies of a mail that went back to a lane."""
    return [one for one in stored(bootstrap, *READY.values()) if (("ce_id", mail.encode())) in one.headers()]


def held() -> list[str]:
    return [line["id"] for line in told("mail", "held")["oldest"]]


def test_a_held_mail_is_released_to_its_lane_once_although_it_is_said_twice(kafka: str) -> None:
    hold(kafka, "r1", "r2")
    assert {"r1", "r2"} <= set(held())
    assert told("mail", "release", "r1", "--yes", "--reason", "the site lost it")["mails"] == ["r1"]
    again = run("mail", "release", "r1", "--yes")
    assert again.exit_code == 1
    assert "decided on already" in again.stderr
    assert len(lane(kafka, "r1")) == 1
    (released,) = outcomes(kafka, "r1")
    assert released.event_type == "redriven"
    assert "the site lost it" in (released.reason or "")
    assert "r1" not in held()
    assert "r2" in held()


def test_a_dropped_mail_ends_as_cancelled_and_is_sent_nowhere(kafka: str) -> None:
    hold(kafka, "d1")
    assert run("mail", "drop", "d1", "--yes").exit_code == 2
    assert told("mail", "drop", "d1", "--yes", "--reason", "too late")["dropped"] == 1
    (ended,) = outcomes(kafka, "d1")
    assert (ended.event_type, ended.category) == ("cancelled", "dropped")
    assert (ended.reason or "").endswith(": too late")
    assert lane(kafka, "d1") == []
    assert "d1" not in held()


def test_mails_are_chosen_by_tenant_site_and_age(kafka: str) -> None:
    hold(kafka, "c1", tenant_id="blue", domain="one.example")
    hold(kafka, "c2", tenant_id="blue", domain="two.example")
    hold(kafka, "c3.0", "c3.1", tenant_id="red", domain="one.example")
    assert told("mail", "release", "--tenant", "blue", "--dry-run")["mails"] == ["c1", "c2"]
    assert told("mail", "drop", "--site", "two.example", "--dry-run", "--reason", "x")["mails"] == ["c2"]
    assert told("mail", "release", "--tenant", "blue", "--older-than", "1h", "--dry-run")["mails"] == []
    assert told("mail", "held", "c3")["held"] == 2
    assert {"c1", "c2", "c3.0", "c3.1"} <= set(held()), "a dry run decides nothing"
    assert run("mail", "release", "--tenant", "blue", answer="n\n").exit_code == 1
    assert {"c1", "c2"} <= set(held()), "nobody said yes"
    assert run("mail", "release").exit_code == 2
    assert told("mail", "drop", "c3", "--yes", "--reason", "x")["dropped"] == 2


def test_replaying_dead_letters_leaves_held_mails_alone(kafka: str) -> None:
    hold(kafka, "x1")
    before = len(lane(kafka, "x1"))
    assert run("dead", "replay", "--all", "--reason", "held in doubt").exit_code == 0
    assert len(lane(kafka, "x1")) == before
    letters = [row for row in told("dead", "list")["latest"] if row["reason"].startswith("held")]
    assert run("dead", "replay", letters[0]["id"]).exit_code == 2
    assert "x1" in held()
