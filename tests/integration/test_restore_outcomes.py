"""ClickHouse's tables made again from Kafka: the same rows and rollups, once, whatever happens on the way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from confluent_kafka import Producer
from tests.support.parts import kafka_and_clickhouse
from typer.testing import CliRunner

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.kafka.batches import KafkaBatches
from sluice.adapters.system.clock import SystemClock
from sluice.commands.root import app
from sluice.domain.mail import Waits
from sluice.domain.outcome import Outcome, SmtpReply, encode_outcome
from sluice.domain.topics import OUTCOME
from sluice.record.rebuild import rebuild
from sluice.runtime import console, console_restore
from sluice.runtime.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
MAILS = 600


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Kafka with outcomes of some mails in it, and ClickHouse, into which the recorder has recorded them."""
    with kafka_and_clickhouse(tmp_path_factory, SLUICE_CLICKHOUSE_DATABASE="used") as made:
        produce(made.kafka_bootstrap, 0, MAILS)
        asyncio.run(recorded(made))
        yield made
    structlog.reset_defaults()


def produce(bootstrap: str, first: int, count: int) -> None:
    """Outcomes of mails: composed, attempted, put off or bounced or delivered; some checkpoints, some garbage."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(first, first + count):
        partition = number % 4
        for step, kind in enumerate(("composed", "attempted", ("delivered", "deferred", "bounced")[number % 3])):
            outcome = Outcome(
                event_id=f"e{number}-{step}",
                event_type=kind,  # type: ignore[arg-type]
                event_time=AT + timedelta(seconds=number, milliseconds=step * 7),
                message_id=f"m{number}",
                tenant_id=f"tenant{number % 3}",
                priority="normal",
                campaign_id="spring" if number % 2 else None,
                template_id="hello",
                variant="ab"[number % 2],
                tags=["one", "two"][: number % 3],
                metadata={"order": str(number)} if number % 5 == 0 else {},
                site=f"site{number % 7}",
                recipient=f"u{number}@example.com",
                recipient_hash=f"hash{number}",
                recipient_domain="example.com",
                attempt=min(step, 1),
                smtp=SmtpReply(450, "rcpt", f"4.2.0 not now {number}", "4.2.0") if kind == "deferred" else None,
                category="quota" if kind == "deferred" else None,
                queued_at=AT,
                waits=Waits(queue=number, rate=number % 40),
                duration_ms=number / 7,
                size_bytes=4000 + number,
            )
            headers = [("ce_type", b"sluice.outcome.v1")]
            producer.produce(OUTCOME, encode_outcome(outcome), f"m{number}".encode(), partition, headers=headers)
        if number % 100 == 0:
            producer.produce(OUTCOME, b"{}", partition=partition, headers=[("ce_type", b"sluice.checkpoint.v1")])
            producer.produce(OUTCOME, b"not an outcome", partition=partition)
    assert producer.flush(60) == 0


async def recorded(settings: Settings, rows: int = 170) -> None:
    """As the record service does, until it has caught up."""
    spans = console_restore.spans(settings, console.reach(settings))
    with console.clickhouse(settings) as store:
        migrations.apply(store)
        source = KafkaBatches(settings.kafka_bootstrap, OUTCOME, "sluice-record", max_rows=rows, max_age=0.1)
        try:
            await rebuild(
                source=source,
                store=ClickHouseOutcomes(store),
                clock=SystemClock(),
                ends={partition: end for partition, (_, end) in spans.items()},
                standing=lambda: console_restore.standing(settings, "sluice-record", spans),
            )
        finally:
            await source.close()


@pytest.fixture
async def asked(settings: Settings) -> AsyncIterator[ClickHouse]:
    store = ClickHouse(Target(settings.clickhouse_url, "used", timeout=120))
    yield store
    store.close()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def compared(database: str, *arguments: str, code: int = 0) -> dict[str, bool]:
    found = told("restore", "compare", database, *arguments, code=code)
    assert found["equal"] == all(one["equal"] for one in found["tables"])
    return {one["table"]: one["equal"] for one in found["tables"]}


def count(store: ClickHouse, database: str) -> int:
    return int(store.rows(f"SELECT count() AS n FROM {database}.outcomes")[0]["n"])


def test_a_fresh_database_comes_to_hold_the_same(settings: Settings, asked: ClickHouse) -> None:
    done = told("restore", "outcomes", "--into", "fresh")
    assert (done["outcomes"], done["unreadable"]) == (3 * MAILS, 6)
    tables = compared("fresh")
    assert {"outcomes", "recipients", "mails", "outcomes_per_minute", "variant_mails", "waits_per_hour"} <= set(tables)
    assert all(tables.values())
    assert all(compared("fresh", "--since", "2026-01-01").values())

    refused = run("restore", "outcomes", "--into", "fresh")
    assert refused.exit_code == 1
    assert "holds rows already" in refused.output
    assert told("restore", "outcomes", "--into", "fresh", "--continue")["outcomes"] == 0
    assert told("restore", "outcomes", "--into", "fresh", "--after-backup")["outcomes"] == 0
    assert all(compared("fresh").values())


def test_a_difference_is_found_and_named(settings: Settings, asked: ClickHouse) -> None:
    done = run("restore", "outcomes", "--into", "other")
    assert f"{3 * MAILS:,} outcomes are in other" in done.stdout
    assert f"100 %: {3 * MAILS:,} outcomes" in done.stderr
    asked.command("ALTER TABLE other.outcomes_per_day DELETE WHERE tenant_id = 'tenant1'", {"mutations_sync": 2})
    asked.command("ALTER TABLE other.outcomes UPDATE smtp_text = 'x' WHERE event_id = 'e1-2'", {"mutations_sync": 2})
    tables = compared("other", code=1)
    assert {table for table, equal in tables.items() if not equal} == {"outcomes", "outcomes_per_day"}
    assert "they differ: outcomes, outcomes_per_day" in run("restore", "compare", "other").stdout


class Killed(BaseException):
    """Stands for the process's end."""


async def test_one_that_dies_after_an_insert_and_goes_on_counts_nothing_twice(
    settings: Settings, asked: ClickHouse
) -> None:
    """The worst moment: stored, and the log does not know of it yet."""
    target = settings.model_copy(update={"clickhouse_database": "died"})
    spans = console_restore.spans(settings, console.reach(settings))
    with console.clickhouse(target) as store:
        migrations.apply(store)
        source = KafkaBatches(settings.kafka_bootstrap, OUTCOME, "sluice-restore.died", max_rows=200, max_age=0.1)
        kept = ClickHouseOutcomes(store)
        calls = 0

        class Dies:
            async def store(self, *batch: Any) -> None:
                nonlocal calls
                calls += 1
                await kept.store(*batch)
                if calls == 3:
                    raise Killed

        with pytest.raises(Killed):
            await rebuild(
                source=source,
                store=Dies(),
                clock=SystemClock(),
                ends={partition: end for partition, (_, end) in spans.items()},
                standing=lambda: console_restore.standing(target, "sluice-restore.died", spans),
            )
        await source.close()
    assert 0 < count(asked, "died") < 3 * MAILS
    await asyncio.to_thread(told, "restore", "outcomes", "--into", "died", "--continue")
    assert all((await asyncio.to_thread(compared, "died")).values())


def test_what_came_after_a_backup_is_added_and_recording_goes_on_in_the_restored_database(
    settings: Settings, asked: ClickHouse
) -> None:
    asked.command("BACKUP DATABASE used TO File('monday')")
    produce(settings.kafka_bootstrap, MAILS, 90)
    asyncio.run(recorded(settings))
    asked.command("RESTORE DATABASE used AS backed FROM File('monday')")
    assert not all(compared("backed", code=1).values())
    done = told("restore", "outcomes", "--into", "backed", "--after-backup", "--switch")
    assert done["outcomes"] == 3 * 90
    assert all(compared("backed").values())

    # The record service, started with the restored database, goes on from there.
    produce(settings.kafka_bootstrap, MAILS + 90, 30)
    asyncio.run(recorded(settings.model_copy(update={"clickhouse_database": "backed"})))
    assert count(asked, "backed") == 3 * (MAILS + 120)
    # What was in use has not got these; made again from nothing, it has.
    assert count(asked, "used") == 3 * (MAILS + 90)
    asked.command("DROP DATABASE used")
    assert told("restore", "outcomes")["outcomes"] == 3 * (MAILS + 120)
    assert all(compared("backed").values())


def test_a_running_record_service_keeps_its_tables_to_itself(settings: Settings) -> None:
    source = KafkaBatches(settings.kafka_bootstrap, OUTCOME, "sluice-record", max_rows=10, max_age=0.1)
    try:
        deadline = time.monotonic() + 60
        while not console_restore.group(settings, "sluice-record").members:
            assert time.monotonic() < deadline
            asyncio.run(source.take())
        refused = run("restore", "outcomes")
        assert refused.exit_code == 1
        assert "stop the record service first" in refused.output
    finally:
        asyncio.run(source.close())


def test_wrong_options_are_named(settings: Settings) -> None:
    for arguments in (["--continue", "--after-backup"], ["--switch"], ["--into", "used"]):
        assert run("restore", "outcomes", *arguments).exit_code == 2
    assert run("restore", "compare", "x", "--since", "yesterday").exit_code == 2
