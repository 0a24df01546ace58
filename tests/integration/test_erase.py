"""A person is erased from ClickHouse and Kafka's reference topics; what happened to mail stays counted."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.queries import Queries
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.commands.root import app
from sluice.domain.outcome import Outcome, SmtpReply
from sluice.ports.outcomes import Address, Recorded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
JO, LI = "Jo.Doe@mail.example", "li@mail.example"
AT = datetime.now(UTC) - timedelta(hours=1)


def hashed(address: str) -> str:
    return hmac.digest(b"a-key", address.casefold().encode(), hashlib.sha256).hex()[:32]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """ClickHouse and a Kafka with reference topics, both set for the command."""
    broker = EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        with (
            EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("SLUICE_KAFKA_BOOTSTRAP", broker.bootstrap)
            patch.setenv("SLUICE_CLICKHOUSE_URL", running.url)
            patch.setenv("SLUICE_HASH_KEY", "a-key")
            assert run("topics", "apply").exit_code == 0
            store = ClickHouse(Target(running.url))
            migrations.apply(store)
            yield store
            store.close()
    finally:
        broker.stop()
        structlog.reset_defaults()


def recorded(clickhouse: ClickHouse) -> None:
    """Four mails to Jo, one of them under way and one of another tenant, and one to Li."""
    told_: list[Recorded] = []
    addresses = []
    for name, address, tenant, kinds in (
        ("m1", JO, "acme", ("composed", "delivered")),
        ("m2", JO.lower(), "acme", ("composed", "bounced")),
        ("m3", JO, "acme", ("composed",)),
        ("m4", JO, "globex", ("composed", "delivered")),
        ("m5", LI, "acme", ("composed", "delivered")),
    ):
        for step, kind in enumerate(kinds):
            outcome = Outcome(
                event_id=f"{name}-{kind}", event_type=kind, event_time=AT + timedelta(seconds=step),  # type: ignore[arg-type]
                message_id=name, tenant_id=tenant, recipient_hash=hashed(address), recipient_domain="mail.example",
                rfc5322_message_id=f"{name}@x", metadata={"customer": address}, site="mail.example",
                smtp=SmtpReply(550, "rcpt", "user jo.doe unknown") if kind == "bounced" else None,
            )  # fmt: skip
            told_.append(Recorded(outcome, 0, len(told_)))
        addresses.append(Address(name, tenant, address, hashed(address), int(AT.timestamp())))
    ClickHouseOutcomes(clickhouse)._store("erase", told_, addresses)


def test_a_person_is_erased_and_what_happened_stays_counted(clickhouse: ClickHouse, tmp_path: Path) -> None:
    recorded(clickhouse)
    profiles = tmp_path / "profiles.jsonl"
    profiles.write_text(
        "".join(json.dumps({"tenant_id": t, "email": e}) + "\n" for t, e in (("acme", JO), ("acme", LI)))
    )
    told("profile", "push", str(profiles))
    told("suppress", "add", JO, LI, "--tenant", "acme")
    before = Queries(clickhouse).equation()

    seen = told("erase", JO, "--dry-run")
    assert {name: seen[name] for name in ("erased", "mails", "outcomes", "recipients", "waiting")} == {
        "erased": False, "mails": 4, "outcomes": 7, "recipients": 4, "waiting": 1,
    }  # fmt: skip
    assert (seen["profiles"], seen["suppressions"], seen["suppressions_kept"]) == (1, 1, True)
    left = {one["where"]: one["until"] for one in seen["left"]}
    assert left["mail.send.*"] > (datetime.now(UTC) + timedelta(days=6)).isoformat()
    assert left["ref.*"] < (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert left["backups"] is None
    assert clickhouse.rows("SELECT count() AS n FROM sluice.recipients")[0]["n"] == 5

    refused = run("erase", JO)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    shown = run("erase", JO, "--dry-run").stdout
    assert "still under way" in shown
    assert "jo.doe" not in shown.lower()

    told("erase", JO, "--yes", "--tenant", "globex")
    assert told("erase", JO, "--dry-run")["mails"] == 3
    assert told("erase", JO.upper(), "--yes")["erased"] is True

    again = told("erase", JO, "--dry-run")
    assert [again[name] for name in ("mails", "outcomes", "recipients", "profiles", "suppressions")] == [0, 0, 0, 0, 1]
    everything = json.dumps(
        [clickhouse.rows(f"SELECT * FROM sluice.{name}") for name in ("outcomes", "recipients", "mails")], default=str
    ).lower()
    assert "jo.doe" not in everything
    assert hashed(JO) not in everything
    assert hashed(LI) in everything
    assert Queries(clickhouse).equation() == before
    kept = clickhouse.rows("SELECT recipient_domain, metadata FROM sluice.outcomes WHERE message_id = 'm5' LIMIT 1")
    assert kept == [{"recipient_domain": "mail.example", "metadata": {"customer": LI}}]

    assert [entry["email"] for entry in told("suppress", "list")] != [LI]
    told("erase", JO, "--yes", "--suppressions")
    assert [entry["email"] for entry in told("suppress", "list")] == [LI]


def test_what_is_no_address_is_refused(clickhouse: ClickHouse) -> None:
    done = run("erase", "not an address")
    assert done.exit_code == 2
    assert "not an address" not in done.stderr
