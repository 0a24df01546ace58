"""What docs/analytics.md and docs/querying.md say, held against the schema and asked of it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice.adapters.clickhouse import migrations, retention
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.ready_made import ready_made
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.domain.outcome import Outcome, SmtpReply
from sluice.ports.outcomes import Address, Recorded

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[2] / "docs"
ANALYTICS = (DOCS / "analytics.md").read_text(encoding="utf-8")
TABLES = [
    name
    for row in re.findall(r"^\| (\[`\w+`\].*?) \|", ANALYTICS, re.MULTILINE)
    for name in re.findall(r"\[`(\w+)`\]", row)
]
QUESTIONS = re.findall(r"^```sql\n(.*?)^```$", ANALYTICS, re.MULTILINE | re.DOTALL)
NOT_EXPLAINED = {"mails", "schema_migrations"}
"""Read through mail_state; the schema's own."""
NOW = datetime.now(UTC)
MAIL = "0198f3a0-5c00-7000-8000-000000000002"


def story() -> Iterator[dict[str, Any]]:
    """One of everything that the questions ask about, in the last minutes."""
    person = {"message_id": MAIL, "recipient_hash": "1b0fa7ca98b06c81b6d3c4b9e2f2a3d4", "queued_at": NOW}
    at = NOW - timedelta(minutes=2)
    yield {"event_type": "composed", "event_time": at, **person}
    yield {"event_type": "attempted", "event_time": at, "attempt": 1, **person}
    yield {"event_type": "in_doubt", "event_time": at, "attempt": 1, **person}
    yield {"event_type": "delivered", "event_time": at, "attempt": 2, "smtp": SmtpReply(250, "dot"), **person}
    yield {"event_type": "bounced", "event_time": at, "message_id": "b", "smtp": SmtpReply(550, "rcpt", "5.1.1 no")}
    yield {"event_type": "rejected", "event_time": at, "message_id": "r", "category": "invalid", "field": "to"}
    yield {"event_type": "attempted", "event_time": NOW - timedelta(hours=2), "message_id": "a", "attempt": 1}


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        store = ClickHouse(Target(running.url, database="sluice"))
        migrations.apply(store)
        fixed: dict[str, Any] = {"tenant_id": "acme", "site": "google.com", "campaign_id": "autumn", "priority": "high"}
        told = [Recorded(Outcome(event_id=str(n), **{**fixed, **entry}), 0, n) for n, entry in enumerate(story())]
        ClickHouseOutcomes(store)._store(
            "told", told, [Address(MAIL, "acme", "jo@x.example", "h", int(NOW.timestamp()))]
        )
        yield store
        store.close()


def explained(name: str) -> list[str]:
    """The columns that the section of a table explains."""
    section = ANALYTICS.split(f"\n## `{name}`\n")[1].split("\n## ")[0].split("\n### ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return [column for cell in cells for column in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_explained_are_those_of_the_table(clickhouse: ClickHouse, name: str) -> None:
    found = clickhouse.rows(
        "SELECT name FROM system.columns WHERE database = 'sluice' AND table = {table:String}", {"table": name}
    )
    columns = explained(name)
    assert len(columns) == len(set(columns))
    assert set(columns) == {row["name"] for row in found}


def test_every_table_is_explained(clickhouse: ClickHouse) -> None:
    found = clickhouse.rows("SELECT name FROM system.tables WHERE database = 'sluice' AND engine != 'MaterializedView'")
    assert {row["name"] for row in found} - NOT_EXPLAINED == set(TABLES)


def test_the_times_that_tables_are_kept_are_those_of_the_schema(clickhouse: ClickHouse) -> None:
    said = dict(re.findall(r"^\| \[`(\w+)`\].*\| ([^|]+) \|$", ANALYTICS, re.MULTILINE))
    for row in clickhouse.rows("SELECT name, create_table_query AS sql FROM system.tables WHERE database = 'sluice'"):
        if rule := re.search(r"TTL .*\+ toInterval(Day|Month)\((\d+)\)", row["sql"]):
            name = {"mails": "mail_state"}.get(row["name"], row["name"])
            # Fourteen whole months on, counted from the month's beginning, are thirteen to fourteen for a row.
            assert said[name] == (f"{rule[2]} days" if rule[1] == "Day" else f"{int(rule[2]) - 1} months")
    assert retention.LONGEST >= 13 * 30


@pytest.mark.parametrize("sql", QUESTIONS, ids=lambda sql: " ".join(sql.split())[:40])
def test_every_question_can_be_asked_and_is_answered(clickhouse: ClickHouse, sql: str) -> None:
    assert clickhouse.rows(sql)


def test_there_are_ten_questions() -> None:
    assert re.findall(r"^\*\*(\d+)\. ", ANALYTICS, re.MULTILINE) == [str(n) for n in range(1, 11)]
    assert len(QUESTIONS) >= 10


def test_the_ready_made_queries_are_listed_as_they_are() -> None:
    text = (DOCS / "querying.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert listed == {query.name: query.title for query in ready_made().values()}
