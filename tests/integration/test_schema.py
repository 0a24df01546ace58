"""Migrations, and what the schema's views and queries answer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sluice.adapters.clickhouse import migrations, retention
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.queries import Equation, Queries, Scope
from sluice.adapters.clickhouse.rows import OutcomeRow
from sluice.adapters.clickhouse.tls_reports import Reportable, Sent, TlsReports
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.domain.errors import SluiceError
from sluice.domain.outcome import Outcome, SmtpReply
from sluice.domain.tls_report import Counted
from sluice.domain.tls_sessions import TlsSession
from sluice.ports.outcomes import Recorded

pytestmark = pytest.mark.slow
AT = (datetime.now(UTC) - timedelta(days=21)).replace(hour=4, minute=0, second=0, microsecond=0)
"""Young enough for every rule of retention."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def empty(server: EmbeddedClickHouse) -> Iterator[ClickHouse]:
    clickhouse = ClickHouse(Target(server.url, database="schema_test"))
    clickhouse.command("DROP DATABASE IF EXISTS schema_test")
    yield clickhouse
    clickhouse.close()


@pytest.fixture
def migrated(empty: ClickHouse) -> ClickHouse:
    migrations.apply(empty)
    return empty


def test_pending_migrations_are_planned_and_applied_once(empty: ClickHouse) -> None:
    assert {step.state for step in migrations.plan(empty)} == {"pending"}
    assert empty.rows("SELECT name FROM system.databases WHERE name = 'schema_test'") == []
    applied = migrations.apply(empty)
    assert [entry.version for entry in applied] == list(range(1, len(applied) + 1))
    assert {step.state for step in migrations.plan(empty)} == {"applied"}
    assert migrations.apply(empty) == []


def test_every_statement_can_be_repeated(migrated: ClickHouse) -> None:
    for entry in migrations.migrations():
        for statement in entry.statements(migrated.database):
            migrated.command(statement)


def test_a_migration_that_failed_half_way_is_applied_again(empty: ClickHouse) -> None:
    good = (
        "CREATE DATABASE IF NOT EXISTS {database};\nCREATE TABLE IF NOT EXISTS {database}.x (a Int8) ENGINE = Null;\n"
    )
    with pytest.raises(Exception, match="no_such_function"):
        migrations.apply(empty, [migrations.Migration(1, "x", "c1", good + "SELECT no_such_function();\n")])
    assert [step.state for step in migrations.plan(empty, [migrations.Migration(1, "x", "c2", good)])] == ["pending"]
    assert len(migrations.apply(empty, [migrations.Migration(1, "x", "c2", good)])) == 1


def test_an_edited_migration_is_refused(migrated: ClickHouse) -> None:
    files = migrations.migrations()
    edited = [msgspec.structs.replace(files[0], checksum="0" * 64), *files[1:]]
    with pytest.raises(migrations.SchemaError, match="0001_outcomes was edited"):
        migrations.apply(migrated, edited)


def test_a_database_ahead_of_this_version_is_refused(migrated: ClickHouse) -> None:
    with pytest.raises(migrations.SchemaError, match="does not know"):
        migrations.plan(migrated, migrations.migrations()[:-1])


def test_a_strange_database_name_is_refused(server: EmbeddedClickHouse) -> None:
    with pytest.raises(migrations.SchemaError, match="database name"):
        migrations.plan(ClickHouse(Target(server.url, database="a; DROP TABLE x")))


def test_columns_and_rows_have_the_same_names(migrated: ClickHouse) -> None:
    rows = migrated.rows("SELECT name FROM system.columns WHERE database = 'schema_test' AND table = 'outcomes'")
    assert {row["name"] for row in rows} - {"recorded_at"} == set(OutcomeRow.__struct_fields__)


def test_the_migrations_carry_no_byte_order_marks_or_tabs() -> None:
    for file in (Path(__file__).parents[2] / "schemas" / "clickhouse").glob("*.sql"):
        assert "\t" not in file.read_text(encoding="utf-8")


class Story:
    """Writes outcomes as services would."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._store = ClickHouseOutcomes(clickhouse)
        self._entries: list[Recorded] = []

    def happened(self, message_id: str, *types: str, after: float = 0.0, **fields: object) -> None:
        """Outcomes of one mail, a second apart."""
        for step, kind in enumerate(types):
            values: dict[str, object] = {
                "event_id": f"{message_id}-{kind}-{len(self._entries)}",
                "event_type": kind,
                "event_time": AT + timedelta(seconds=after + step),
                "message_id": message_id,
                "tenant_id": "acme",
                "site": "example.com",
                "priority": "normal",
                "queued_at": AT,
                **fields,
            }
            self._entries.append(Recorded(Outcome(**values), 0, len(self._entries)))  # type: ignore[arg-type]

    async def told(self) -> None:
        """Store it all, last first: order must not matter."""
        await self._store.store(f"story:{id(self)}", self._entries[::-1], [])


async def test_each_mail_has_one_state_and_the_equation_holds(migrated: ClickHouse) -> None:
    story = Story(migrated)
    story.happened("sent", "accepted", "composed", "attempted", "delivered")
    story.happened("late", "accepted", "composed", "attempted", "deferred", "attempted", "delivered")
    story.happened("doubt", "accepted", "composed", "attempted", "in_doubt", "attempted", "delivered", "bounced")
    story.happened("bounced", "accepted", "composed", "attempted", "bounced")
    story.happened("later", "accepted", "composed", "attempted", "delivered", "opened", "complained", "bounced_later")
    story.happened("suppressed", "suppressed")
    story.happened("refused", "rejected", category="invalid", field="to[0].email")
    story.happened("unrenderable", "accepted", "scheduled", "rejected", category="template")
    story.happened("expired", "accepted", "composed", "deferred", "expired")
    story.happened("dead", "dead")
    story.happened("cancelled", "accepted", "scheduled", "cancelled")
    story.happened("fresh", "accepted")
    story.happened("deferred", "accepted", "composed", "attempted", "deferred")
    story.happened("held", "accepted", "composed", "attempted", "in_doubt", "held")
    story.happened("twice", "accepted", "composed")
    story.happened("twice", "rejected", after=60, category="duplicate")
    story.happened("twice-later", "accepted", "scheduled")
    story.happened("twice-later", "rejected", after=60, category="idempotency_conflict")
    story.happened("only-a-repeat", "rejected", category="duplicate")
    await story.told()
    found = Queries(migrated).equation()
    assert found == Equation(
        accepted=17, delivered=4, bounced=1, suppressed=1, rejected=3, expired=1, dead=1, cancelled=1, waiting=5
    )
    assert found.difference == 0


async def test_a_scope_picks_whole_mails(migrated: ClickHouse) -> None:
    story = Story(migrated)
    story.happened("old", "accepted", "delivered")
    story.happened("across", "accepted", "composed")
    story.happened("across", "delivered", after=3600)
    story.happened("new", "accepted", after=3600, campaign_id="autumn")
    story.happened("other's", "accepted", "delivered", tenant_id="globex")
    await story.told()
    queries = Queries(migrated)
    since = Scope(since=AT + timedelta(minutes=30))
    assert queries.equation(since) == Equation(accepted=2, delivered=1, waiting=1)
    assert queries.equation(Scope(tenant_id="globex")) == Equation(accepted=1, delivered=1)
    assert queries.equation(Scope(campaign_id="autumn")) == Equation(accepted=1, waiting=1)
    assert queries.equation(Scope(message_ids=["other's", "new", "unknown"])) == Equation(
        accepted=2, delivered=1, waiting=1
    )
    assert queries.equation(Scope(message_ids=[])) == Equation(accepted=0)
    assert sorted(queries.message_ids(["delivered"], since)) == ["across"]


async def test_a_timeline_is_in_order_and_complete(migrated: ClickHouse) -> None:
    story = Story(migrated)
    story.happened("m", "accepted", "composed", "attempted")
    story.happened("m", "deferred", after=4, smtp=SmtpReply(451, "rcpt", "4.7.1 later", "4.7.1"), category="transient")
    story.happened("n", "accepted")
    await story.told()
    timeline = Queries(migrated).timeline("m")
    assert [entry.event_type for entry in timeline] == ["accepted", "composed", "attempted", "deferred"]
    assert (timeline[-1].smtp_code, timeline[-1].smtp_text, timeline[-1].category) == (451, "4.7.1 later", "transient")
    assert timeline[0].event_time == AT
    assert Queries(migrated).timeline("unknown") == []


async def test_sites_and_latencies(migrated: ClickHouse) -> None:
    story = Story(migrated)
    for number in range(100):
        story.happened(f"d{number}", "delivered", after=(number + 1) / 1000, site="gmail.com", priority="high")
    story.happened("b", "bounced", site="gmail.com", category="invalid_recipient")
    story.happened("w", "accepted", "deferred", site="slow.example", category="transient")
    await story.told()
    queries = Queries(migrated)
    gmail, slow = queries.sites()
    assert (gmail.site, gmail.mails, gmail.delivered, gmail.bounced) == ("gmail.com", 101, 100, 1)
    assert gmail.p50_ms == pytest.approx(50, abs=1)
    assert gmail.p99_ms == pytest.approx(99, abs=1)
    assert gmail.top_category == "invalid_recipient"
    assert (slow.waiting, slow.deferred, slow.p50_ms, slow.top_category) == (1, 1, None, "transient")
    assert queries.latency(priority="high").count == 100
    assert queries.latency(priority="bulk").p50_ms is None


async def test_the_rollup_answers_counts_and_quantiles(migrated: ClickHouse) -> None:
    story = Story(migrated)
    for number in range(100):
        story.happened(f"d{number}", "delivered", after=(number + 1) / 1000, size_bytes=10)
    story.happened("b", "bounced", after=70, category="invalid_recipient")
    await story.told()
    rows = migrated.rows(
        "SELECT minute, event_type, category, sum(outcomes) AS n, sum(size_bytes) AS size, "
        "quantilesTDigestMerge(0.5, 0.9, 0.99)(latency_ms) AS latency "
        "FROM schema_test.outcomes_per_minute GROUP BY minute, event_type, category ORDER BY minute"
    )
    assert [(row["event_type"], row["category"], row["n"], row["size"]) for row in rows] == [
        ("delivered", "", 100, 1000),
        ("bounced", "invalid_recipient", 1, 0),
    ]
    assert rows[0]["latency"][0] == pytest.approx(50, abs=2)
    assert rows[1]["minute"] - rows[0]["minute"] == timedelta(minutes=1)


async def test_rollups_made_later_are_filled_from_what_was_recorded_before(empty: ClickHouse) -> None:
    files = migrations.migrations()
    migrations.apply(empty, files[:4])
    story = Story(empty)
    story.happened("sent", "composed", "attempted", "delivered", campaign_id="c", variant="a")
    story.happened("b", "bounced", smtp=SmtpReply(550, "rcpt", "5.1.1 no such user jo9182733"), category="bad_domain")
    story.happened("next-month", "deferred", after=20 * 86_400, category="transient")
    await story.told()
    before = {row["message_id"]: row for row in empty.rows("SELECT * FROM schema_test.mail_state")}
    migrations.apply(empty)
    after = {row["message_id"]: row for row in empty.rows("SELECT * FROM schema_test.mail_state")}
    assert {name: {column: after[name][column] for column in row} for name, row in before.items()} == before
    (found,) = empty.rows(
        "SELECT (SELECT sum(outcomes) FROM schema_test.outcomes_per_day) AS days, "
        "(SELECT sum(mails) FROM schema_test.waits_per_hour WHERE reason = 'total') AS waits, "
        "(SELECT groupArray(pattern) FROM schema_test.replies_per_day) AS replies, "
        "(SELECT uniqCombined64Merge(mails) FROM schema_test.variant_mails) AS variants"
    )
    assert found == {"days": 5, "waits": 1, "replies": ["# no such user <id>"], "variants": 1}


async def test_a_tenants_own_retention_takes_its_rows_and_no_others(migrated: ClickHouse) -> None:
    story = Story(migrated)
    today = (datetime.now(UTC) - AT).total_seconds()
    for tenant in ("acme", "globex"):
        story.happened(f"old-{tenant}", "delivered", after=today - 120 * 86_400, tenant_id=tenant)
        story.happened(f"new-{tenant}", "delivered", after=today, tenant_id=tenant)
    await story.told()
    retention.keep_for(migrated, "acme", 90, "jo@machine")
    retention.keep_for(migrated, "acme", 60, "jo@machine")
    assert retention.retention(migrated) == [retention.Kept("acme", 60)]
    for table in ("outcomes", "mails"):
        migrated.command(f"OPTIMIZE TABLE schema_test.{table} FINAL")
        rows = migrated.rows(f"SELECT message_id FROM schema_test.{table} ORDER BY message_id")
        assert [row["message_id"] for row in rows] == ["new-acme", "new-globex", "old-globex"]
    retention.keep_for(migrated, "acme", None, "jo@machine")
    assert retention.retention(migrated) == []
    with pytest.raises(SluiceError, match="1 to 399 days"):
        retention.keep_for(migrated, "acme", 4000, "jo@machine")


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("message_id = 'm'", "by_message"),
        ("recipient_hash = 'h'", "by_recipient"),
        ("campaign_id = 'c'", "by_campaign"),
        ("redrive_plan = 'p'", "by_plan"),
    ],
)
async def test_rows_are_found_by_the_index_meant_for_them(migrated: ClickHouse, condition: str, index: str) -> None:
    story = Story(migrated)
    story.happened("somebody's", "delivered")
    await story.told()
    plan = migrated.rows(f"EXPLAIN indexes = 1 SELECT count() FROM schema_test.outcomes WHERE {condition}")
    assert any(f"Name: {index}" in next(iter(row.values())) for row in plan), plan


async def test_tls_sessions_are_counted_by_day_domain_and_result(migrated: ClickHouse) -> None:
    sts = {"policy_type": "sts", "policy": ["version: STSv1", "mode: testing"], "mx": ["*.é.example", "it's"]}
    good = TlsSession(**sts)  # type: ignore[arg-type]
    bad = TlsSession(**sts, result="certificate-expired", mx_host="mx.a.example", receiving_ip="::1", reason='"\\')  # type: ignore[arg-type]
    story = Story(migrated)
    for mail in range(3):
        story.happened(f"m{mail}", "attempted", recipient_domain="a.example", tls_sessions=[bad, good])
    story.happened("m4", "attempted", recipient_domain="a.example", tls_sessions=[good], after=86_400)
    story.happened("m5", "attempted", recipient_domain="b.example", tls_sessions=[TlsSession("no-policy-found")])
    story.happened("m6", "attempted", recipient_domain="c.example")
    await story.told()
    reports = TlsReports(migrated)
    day = AT.date()
    assert reports.reportable(day) == [Reportable("a.example", 6, 3, 0), Reportable("b.example", 1, 0, 0)]
    succeeded, failed = sorted(reports.counted(day, "a.example"), key=lambda row: row.result)
    assert succeeded == Counted(**sts, sessions=3)  # type: ignore[arg-type]
    assert failed == Counted(  # type: ignore[arg-type]
        **sts, result="certificate-expired", mx_host="mx.a.example", receiving_ip="::1", reason='"\\', sessions=3
    )
    assert reports.counted(day + timedelta(days=1), "a.example") == [Counted(**sts, sessions=1)]  # type: ignore[arg-type]
    assert reports.counted(day, "c.example") == []


def test_reports_that_were_sent_are_known_by_place(migrated: ClickHouse) -> None:
    reports, day = TlsReports(migrated), AT.date()
    sent = Sent(day, "a.example", "mailto:tls@a.example", "id", "m1", 6, 3)
    reports.note([sent, msgspec.structs.replace(sent, endpoint="https://a.example/"), sent])
    assert reports.sent(day, "a.example") == ["https://a.example/", "mailto:tls@a.example"]
    assert reports.sent(day, "b.example") == []
    assert reports.sent(day + timedelta(days=1), "a.example") == []
