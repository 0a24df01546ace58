"""The command against a real Kafka: what it publishes is there, and is there once."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from confluent_kafka import Producer
from typer.testing import CliRunner

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.commands.root import app
from sluice.domain.topics import DEAD, Layout, topics
from sluice.ports.records import ORIGIN, REASON

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


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


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def records(topic: str) -> int:
    return int(next(row["records"] for row in told("topics", "list") if row["topic"] == topic))


def test_topics_are_applied_once(kafka: str) -> None:
    again = told("topics", "apply")
    assert {change["action"] for change in again} == {"keep"}
    assert len(again) == len(topics(Layout()))


def test_topics_grow_and_never_shrink(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_KAFKA_WHEEL_PARTITIONS", "3")
    done = run("topics", "apply", "--json")
    assert "for good: Kafka never takes partitions away" in done.stderr
    grown = json.loads(done.stdout)
    assert {change["topic"] for change in grown if change["action"] == "grow"} == {
        spec.name for spec in topics(Layout()) if spec.name.startswith("mail.wheel.")
    }
    monkeypatch.setenv("SLUICE_KAFKA_WHEEL_PARTITIONS", "2")
    refused = run("topics", "plan")
    assert refused.exit_code == 1
    assert "Kafka never takes partitions away" in refused.stderr


def test_on_a_terminal_partitions_are_added_only_when_agreed_to(kafka: str) -> None:
    terminal, theirs = pty.openpty()
    os.write(terminal, b"n\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "sluice", "topics", "apply"],
        env={**os.environ, "SLUICE_KAFKA_SEND_PARTITIONS": "6"},
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=100,
    )
    os.close(terminal)
    os.close(theirs)
    assert done.returncode == 1
    assert "mail.send.high: 4 to 6 partitions" in done.stderr
    assert "Idempotency keys stay" in done.stderr
    assert next(row["partitions"] for row in told("topics", "list") if row["topic"] == "mail.send.high") == 4


def test_a_topic_that_is_missing_is_named(kafka: str, tmp_path: Path) -> None:
    broker = EmbeddedKafka.on_free_ports(tmp_path)
    broker.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLUICE_KAFKA_BOOTSTRAP", broker.bootstrap)
            done = run("tenant", "push", str(EXAMPLES / "tenants"))
        assert done.exit_code == 1
        assert done.stderr == ("sluice tenant: Kafka has no topic ref.tenants: create it with sluice topics apply\n")
    finally:
        broker.stop()


def test_a_tenant_comes_back_as_it_was_pushed_and_goes_when_removed(kafka: str) -> None:
    assert told("tenant", "push", str(EXAMPLES / "tenants")) == {"pushed": ["acme", "shop"]}
    shown = json.loads(run("tenant", "show", "shop").stdout)
    given = json.loads((EXAMPLES / "tenants/shop.json").read_text())
    assert {name: shown[name] for name in given} == given
    told("tenant", "remove", "shop")
    assert [tenant["tenant_id"] for tenant in told("tenant", "list")] == ["acme"]
    assert run("tenant", "remove", "shop").exit_code == 1


def test_templates_get_versions_are_not_overwritten_and_render(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "hello.json"
    english = {"en": {"subject": "Hi {{ name }}", "text": "Hi {{ n }}"}}
    hello: dict[str, Any] = {"tenant_id": "acme", "template_id": "hello", "locales": english}

    def push(*options: str, **changed: Any) -> Any:
        file.write_text(json.dumps({**hello, **changed}))
        return run("template", "push", str(file), "--json", *options)

    def results(done: Any) -> list[tuple[int, str]]:
        return [(row["version"], row["result"]) for row in json.loads(done.stdout)]

    other = {"en": {"subject": "Hello {{ name }}", "html": "<p>{{ n }}</p>"}}
    assert results(push()) == [(1, "new")]
    assert results(push()) == [(1, "unchanged")]
    assert results(push(locales=other)) == [(2, "new")]
    assert push(version=1, locales=other).exit_code == 1
    assert results(push("--force", version=1, locales=other)) == [(1, "new")]
    broken = push(locales={"en": {"subject": "x", "text": "{% if %}"}})
    assert broken.exit_code == 1
    assert "en: text, line 1:" in broken.stderr
    page = tmp_path / "out.html"
    words = ["template", "preview", "hello", "--var", "name=Jo", "--html", str(page)]
    assert told(*words, "--var", "n=7")["subject"] == "Hello Jo"
    assert page.read_text() == "<p>7</p>"
    missing = run(*words)
    assert missing.exit_code == 1
    assert "'n' is undefined" in missing.stderr


def test_suppressions_are_added_exported_imported_and_removed(kafka: str, tmp_path: Path) -> None:
    told("suppress", "add", "jo@mail.example", "li@post.example", "--tenant", "acme", "--expires", "30d")
    told("suppress", "add", "jo@mail.example", "--tenant", "acme", "--stream", "broadcast", "--reason", "unsubscribed")
    listed = told("suppress", "list", "--tenant", "acme", "--email", "JO@mail.example")
    assert {(one["stream"], one["reason"]) for one in listed} == {
        (None, "added by hand"),
        ("broadcast", "unsubscribed"),
    }
    for form in ([], ["--csv"]):
        exported = tmp_path / "exported"
        exported.write_text(run("suppress", "export", *form).stdout)
        before = told("suppress", "list")
        told("suppress", "remove", "li@post.example", "--tenant", "acme")
        assert told("suppress", "import", str(exported)) == {"suppressed": 3}
        assert sorted(map(str, told("suppress", "list"))) == sorted(map(str, before))
    assert run("suppress", "remove", "nobody@mail.example", "--tenant", "acme").exit_code == 1


def test_profiles_are_stored_under_the_address_that_compose_looks_up(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "profiles.jsonl"
    file.write_text(
        '{"tenant_id": "acme", "email": "Jo@bücher.example"}\n{"tenant_id": "acme", "email": "b@c.example"}\n'
    )
    assert told("profile", "push", str(file)) == {"pushed": 2}
    from sluice.runtime import console
    from sluice.runtime.config import load_settings

    with console.catalogue(load_settings()) as known:
        assert known.profile("acme", "Jo@xn--bcher-kva.example") is not None


def test_a_file_of_events_is_published_but_for_its_wrong_lines(kafka: str, tmp_path: Path) -> None:
    before = records("mail.send.bulk")
    file = tmp_path / "events.jsonl"
    good = {"tenant_id": "acme", "to": [{"email": "jo@mail.example"}], "subject": "s", "text": "t"}
    file.write_text("\n".join([*[json.dumps(good)] * 500, "not json", json.dumps({**good, "to": []})]))
    done = run("send", "--file", str(file), "--priority", "bulk", "--json")
    summary = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (summary["read"], summary["published"], summary["refused"], summary["failed"]) == (502, 500, 2, 0)
    assert [one["line"] for one in summary["first_refused"]] == [501, 502]
    assert records("mail.send.bulk") == before + 500


def test_one_mail_is_stored_or_refused_with_its_field(kafka: str) -> None:
    words = ["send", "--tenant", "acme", "--subject", "s", "--text", "t"]
    receipt = told(*words, "--to", "jo@mail.example", "--priority", "high")
    assert receipt["topic"] == "mail.send.high"
    refused = run(*words, "--to", "nobody")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("sluice send: refused: to[0].email: ")


def test_dead_letters_are_listed_by_reason_and_replayed_where_they_came_from(kafka: str) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(3):
        headers = [(REASON, b"no such tenant"), (ORIGIN, f"mail.send.normal:{number}:7".encode()), ("ce_id", b"x")]
        producer.produce(DEAD, b"{}", b"k", headers=headers)  # type: ignore[arg-type]
    producer.produce(DEAD, b"?", None, headers=[(REASON, b"other"), (ORIGIN, b"mail.gone:0:1")])  # type: ignore[list-item]
    assert producer.flush(20) == 0
    listed = told("dead", "list", "--reason", "TENANT")
    assert listed["records"] == 3
    assert {one["origin"].partition(":")[0] for one in listed["latest"]} == {"mail.send.normal"}
    before = records("mail.send.normal")
    assert told("dead", "replay", "--all", "--reason", "no such tenant") == {"replayed": 3}
    assert records("mail.send.normal") == before + 3
    assert run("dead", "show", listed["latest"][0]["id"]).stdout == "{}"
    gone = run("dead", "replay", "3")
    assert gone.exit_code == 1
    assert "topic mail.gone, which does not exist" in gone.stderr


def test_doctor_and_status_look_at_the_cluster(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {one["check"]: one for one in json.loads(run("doctor", "--json", "--domain", "nothing.invalid").stdout)}
    assert found["Kafka"]["state"] == "ok"
    assert found["compose"]["state"] == "warn"
    assert found["DKIM keys"]["state"] == "fail"
    seen = {row["topic"]: row for row in json.loads(run("status", "--json").stdout)["topics"]}
    assert seen["mail.send.bulk"]["lag"] == seen["mail.send.bulk"]["records"] == records("mail.send.bulk")
