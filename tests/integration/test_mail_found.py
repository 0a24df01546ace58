"""``sluice mail`` over a real ClickHouse: found by what its sender or its recipient knows, and followed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.commands.root import app
from sluice.domain.bounce import Verdict
from sluice.domain.conclusion import Recorder, Way
from sluice.domain.conversation import Conversation, Exchange
from sluice.domain.mail import Envelope
from sluice.domain.outcome import Outcome
from sluice.domain.smtp import Replied, Tls
from sluice.ports.outcomes import Recorded

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC).timestamp() - 60
RECORDER = Recorder("test", b"a key")
GREYLISTED = Replied("rcpt", 451, "4.7.1 greylisted, try again later", "4.7.1")
RULE = Verdict("transient", "site", "defer", "greylisting")
TALK = Conversation(
    [
        Exchange("connect", "mx.site.example:25", "(192.0.2.1)", 21.5),
        Exchange("banner", reply="220 mx.site.example", ms=30.25),
        Exchange("rcpt", "RCPT TO:<…>", "451 4.7.1 <address>: greylisted", 1100.0),
    ]
)
WAY = Way(
    "mx.site.example", "192.0.2.1", Tls("required", "TLSv1.3", "TLS_AES_256_GCM_SHA384"), "default", conversation=TALK
)


def envelope(message_id: str, rcpt_to: str, quoted: str | None = None) -> Envelope:
    """A mail's envelope."""
    return Envelope(
        message_id=message_id, rfc5322_message_id=f"{quoted or message_id}@acme.example", tenant_id="acme",
        stream="transactional", priority="normal", mail_from="a@acme.example", rcpt_to=rcpt_to, domain="site.example",
        site="site.example", lane="site.example#0", size=20, queued_at=NOW, composed_at=NOW, expires_at=NOW + 9e5,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    )  # fmt: skip


class Store:
    """Where outcomes go, one after the other."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._store = ClickHouseOutcomes(clickhouse)
        self._offset = 0

    def put(self, *outcomes: Outcome) -> None:
        """Keep outcomes."""
        rows = [Recorded(outcome, 0, self._offset + number) for number, outcome in enumerate(outcomes)]
        self._offset += len(rows)
        asyncio.run(self._store.store(f"t:{self._offset}", rows, []))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def store(server: EmbeddedClickHouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    clickhouse = ClickHouse(Target(server.url, database="found"))
    clickhouse.command("DROP DATABASE IF EXISTS found")
    migrations.apply(clickhouse)
    monkeypatch.setenv("SLUICE_CLICKHOUSE_URL", server.url)
    monkeypatch.setenv("SLUICE_CLICKHOUSE_DATABASE", "found")
    monkeypatch.setenv("SLUICE_HASH_KEY", "a key")
    monkeypatch.setenv("COLUMNS", "240")
    yield Store(clickhouse)
    clickhouse.close()
    structlog.reset_defaults()


def mail(*arguments: str) -> Any:
    """What the command did."""
    return CliRunner().invoke(app, ["mail", *arguments])


def told(*arguments: str) -> list[dict[str, Any]]:
    """What it says as JSON."""
    done = mail(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def tried(of: Envelope, at: float, **more: Any) -> Outcome:
    """An attempt that was put off."""
    due = at + 3600
    return RECORDER.of_mail(
        of, "deferred", at, 1, attempt=1, result=GREYLISTED, verdict=RULE, way=WAY, duration_ms=1200.0,
        next_attempt_at=due, **more,
    )  # fmt: skip


def test_a_mail_is_found_by_its_id_its_message_id_and_its_recipient(store: Store) -> None:
    """The latest first, where there are several; an address is one however its domain is written."""
    first, second = envelope("m1", "jo@site.example"), envelope("m 2", "jo@site.example", "m%202")
    store.put(RECORDER.of_mail(first, "composed", NOW), RECORDER.of_mail(second, "composed", NOW + 5))
    assert [found["message_id"] for found in told("m1")] == ["m1"]
    assert [found["message_id"] for found in told("<m1@acme.example>")] == ["m1"]
    assert [found["message_id"] for found in told("m%202@acme.example")] == ["m 2"]
    assert [found["message_id"] for found in told("Jo@Site.Example")] == ["m 2", "m1"]
    listed = mail("jo@site.example").stdout
    assert listed.index("m 2") < listed.index("m1")
    assert "2 mails" in listed
    assert mail("li@site.example").exit_code == mail("m1@other.example").exit_code == 1
    assert mail("no address@all@").exit_code == 1


def test_an_attempt_is_told_with_where_how_and_who_decided(store: Store) -> None:
    of = envelope("m1", "jo@site.example")
    store.put(RECORDER.of_mail(of, "composed", NOW + 1), tried(of, NOW + 2))
    shown = mail("m1").stdout
    for part in (
        "m1, tenant acme, Message-ID <m1@acme.example>, trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "published", "mx.site.example [192.0.2.1]", "TLSv1.3 (required)", "1.2 s", "451 4.7.1 greylisted",
        "greylisting", "The next attempt is at", "attempt 1 with mx.site.example: deferred", "RCPT TO:<…>", "1.1 s",
    ):  # fmt: skip
        assert part in shown, part
    (found,) = told("m1")
    deferred = found["timeline"][-1]
    assert (deferred["rule"], deferred["tls_policy"], deferred["duration_ms"]) == ("greylisting", "required", 1200.0)
    assert [said["phase"] for said in deferred["conversation"]] == ["connect", "banner", "rcpt"]
    assert deferred["conversation"][0]["ms"] == 21.5
    assert "jo@site.example" not in shown


def test_following_shows_steps_as_they_are_recorded(store: Store) -> None:
    """From before anything is known, to the end."""
    of = envelope("m1", "jo@site.example")
    done: list[Any] = []
    following = threading.Thread(target=lambda: done.append(mail("m1", "--follow", "--json")))
    following.start()
    time.sleep(0.5)
    store.put(RECORDER.of_mail(of, "composed", NOW + 1))
    time.sleep(0.5)
    store.put(tried(of, NOW + 2))
    store.put(RECORDER.of_mail(of, "delivered", NOW + 302, 2, attempt=2, way=WAY))
    following.join(60)
    assert not following.is_alive()
    assert done[0].exit_code == 0
    steps = [json.loads(line)["step"]["event_type"] for line in done[0].stdout.splitlines()]
    assert steps == ["composed", "deferred", "delivered"]
