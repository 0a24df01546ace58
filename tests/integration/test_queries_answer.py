"""What the ready-made queries answer, over a story whose figures are known, and by the command."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.ready_made import ask, find_query, ready_made
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.commands.root import app
from sluice.domain.mail import Waits
from sluice.domain.outcome import Outcome, SmtpReply
from sluice.ports.outcomes import Recorded

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC).replace(minute=45, second=0, microsecond=0) - timedelta(hours=1)
GREYLISTED = "4.7.1 Greylisted, come back in {0} seconds (id A1B2C3D4E{0})"


def story() -> Iterator[dict[str, Any]]:
    """The outcomes of: 200 delivered by google, waiting n ms in the queue and for the rate each third; 10 bounced; 40
    that wait at slow.example, of which 5 were delivered in the last minutes; 8 suppressed; a test of two variants."""
    for n in range(200):
        name = f"g{n}"
        at = NOW - timedelta(hours=3)
        fixed = {"message_id": name, "site": "google.com", "campaign_id": "autumn", "queued_at": at, "size_bytes": 5000}
        yield {"event_type": "composed", "event_time": at, **fixed}
        waits = Waits(queue=n + 1, rate=10_000 if n % 3 == 0 else 0)
        took = n + 1 + (10_000 if n % 3 == 0 else 0) + 50
        yield {"event_type": "delivered", "event_time": at + timedelta(milliseconds=took), **fixed, "attempt": 1,
               "waits": waits, "duration_ms": 50.0, "smtp": SmtpReply(250, "dot")}  # fmt: skip
    for n in range(10):
        fixed = {
            "message_id": f"b{n}",
            "site": "google.com",
            "campaign_id": "autumn",
            "event_time": NOW - timedelta(hours=2),
        }
        yield {"event_type": "composed", **fixed}
        category = "invalid_recipient" if n < 7 else "quota"
        yield {
            "event_type": "bounced",
            **fixed,
            "category": category,
            "rule": "x",
            "smtp": SmtpReply(550, "rcpt", "no"),
        }
    for n in range(40):
        fixed = {"message_id": f"w{n}", "site": "slow.example", "tenant_id": "globex"}
        yield {"event_type": "composed", "event_time": NOW - timedelta(hours=5), **fixed}
        reply = SmtpReply(451, "rcpt", GREYLISTED.format(n + 100), "4.7.1")
        yield {"event_type": "deferred", "event_time": NOW - timedelta(hours=4), **fixed, "category": "transient",
               "rule": "fallback.temporary", "smtp": reply}  # fmt: skip
        if n < 5:
            yield {"event_type": "delivered", "event_time": NOW - timedelta(minutes=5), **fixed}
    for n in range(8):
        reason = "complained" if n < 3 else "unsubscribed"
        yield {"event_type": "suppressed", "event_time": NOW - timedelta(hours=1), "message_id": f"s{n}",
               "reason": reason, "category": "suppressed", "recipient_hash": f"h{n % 4}",
               "campaign_id": "autumn"}  # fmt: skip
    for variant, sent, opened in (("a", 120, 30), ("b", 110, 44), ("c", 20, 20)):
        for n in range(sent):
            fixed = {"message_id": f"v{variant}{n}", "campaign_id": "test", "variant": variant, "site": "google.com"}
            kinds = ["composed", "delivered", *(["opened", "opened"] if n < opened else [])]
            for step, kind in enumerate(kinds):
                at = NOW - timedelta(days=3, seconds=-step)
                yield {"event_type": kind, "event_time": at, **fixed, "tenant_id": "initech"}


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        store = ClickHouse(Target(running.url, database="asked"))
        migrations.apply(store)
        told = [
            Recorded(Outcome(**{"event_id": str(n), "tenant_id": "acme", "priority": "bulk", **entry}), 0, n)
            for n, entry in enumerate(story())
        ]
        ClickHouseOutcomes(store)._store("story", told, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLUICE_CLICKHOUSE_URL", running.url)
            patch.setenv("SLUICE_CLICKHOUSE_DATABASE", "asked")
            yield store
        store.close()
    structlog.reset_defaults()


def answer(clickhouse: ClickHouse, name: str, **given: str) -> list[dict[str, Any]]:
    query = find_query(name)
    return ask(
        clickhouse, query, query.values({**given, "until": NOW.isoformat()} if name != "variants" else given, NOW)
    )


@pytest.mark.parametrize("name", list(ready_made()))
def test_columns_are_those_of_the_header(clickhouse: ClickHouse, name: str) -> None:
    given = {"campaign": "test"} if name == "variants" else {}
    rows = answer(clickhouse, name, **given)
    assert rows, name
    assert list(rows[0]) == [column.name for column in find_query(name).columns]


DASHBOARD = Path(__file__).parents[2] / "deploy/monitoring/grafana/deliverability.json"
PANELS = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]}


@pytest.mark.parametrize("title", list(PANELS))
def test_every_panel_of_the_dashboard_over_clickhouse_is_answered(clickhouse: ClickHouse, title: str) -> None:
    """As Grafana would ask, for all tenants and for one whose name has a quote in it."""
    (target,) = PANELS[title]["targets"]

    def asked(tenant: str) -> list[dict[str, Any]]:
        filled = {
            "database": clickhouse.database,
            "tenant:sqlstring": tenant,
            "site:sqlstring": "''",
            "__from": str(int((NOW - timedelta(days=6)).timestamp() * 1000)),
            "__to": str(int(NOW.timestamp() * 1000)),
            "__interval_ms": "300000",
        }
        sql = re.sub(r"\$\{([^}]+)\}", lambda match: filled[match[1]], target["rawSql"])
        return clickhouse.rows(sql, {}, {"readonly": 2})

    assert asked("''")
    if "tenant:sqlstring" in target["rawSql"]:
        assert not asked("'nobody''s'")
    if PANELS[title]["type"] == "timeseries":
        assert next(iter(asked("''")[0])) == "time"


@pytest.mark.parametrize("name", list(ready_made()))
def test_every_parameter_can_be_given_and_nothing_found(clickhouse: ClickHouse, name: str) -> None:
    query = find_query(name)
    texts = {"String": "nothing of this name", "DateTime": "2001-01-01", "UInt32": "7", "Float64": "0.9"}
    rows = ask(clickhouse, query, query.values({one.name: texts[one.type] for one in query.parameters}, NOW))
    assert rows == [] or name == "tenants"


def test_deliverability_by_site_and_day(clickhouse: ClickHouse) -> None:
    rows = answer(clickhouse, "deliverability", tenant="acme")
    total = {name: sum(row[name] for row in rows) for name in ("delivered", "bounced", "deferrals")}
    assert total == {"delivered": 200, "bounced": 10, "deferrals": 0}
    assert {row["site"] for row in rows} == {"google.com"}
    (slow,) = {row["site"]: row for row in answer(clickhouse, "deliverability", site="slow.example")}.values()
    assert slow["deferrals"] == 40 or slow["delivered"] == 5


def test_latency_by_reason_of_waiting(clickhouse: ClickHouse) -> None:
    rows = {row["reason"]: row for row in answer(clickhouse, "latency", tenant="acme")}
    assert next(iter(rows)) == "total"
    assert set(rows) == {"total", "queue", "rate", "attempt"}
    took = sorted(n + 1 + (10_000 if n % 3 == 0 else 0) + 50 for n in range(200))
    for name, rank in (("p50_ms", 99), ("p90_ms", 179), ("p99_ms", 197)):
        assert rows["total"][name] == pytest.approx(took[rank], rel=0.09)
    assert rows["total"]["mean_ms"] == pytest.approx(sum(took) / 200, abs=0.1)
    assert rows["queue"]["p50_ms"] == pytest.approx(100, rel=0.09)
    assert (rows["rate"]["mails"], rows["rate"]["p50_ms"]) == (67, 0)
    assert rows["rate"]["p90_ms"] == pytest.approx(10_000, rel=0.045)
    assert rows["rate"]["share_percent"] == pytest.approx(100 * 670_000 / sum(took), abs=0.1)


def test_the_commonest_replies_that_put_mail_off(clickhouse: ClickHouse) -> None:
    (row,) = answer(clickhouse, "deferral_replies")
    assert (row["site"], row["smtp_code"], row["times"], row["share_percent"]) == ("slow.example", 451, 40, 100)
    assert row["reply"] == "# Greylisted, come back in # seconds (id <id>)"


def test_bounces_by_category(clickhouse: ClickHouse) -> None:
    rows = answer(clickhouse, "bounce_categories", tenant="acme")
    assert [(row["category"], row["bounced"], row["share_percent"]) for row in rows] == [
        ("invalid_recipient", 7, 70), ("quota", 3, 30),
    ]  # fmt: skip
    assert rows[0]["of_ended_percent"] == pytest.approx(100 * 7 / 210, abs=0.001)


def test_suppressions_by_reason(clickhouse: ClickHouse) -> None:
    rows = answer(clickhouse, "suppressions")
    assert [(row["tenant"], row["reason"], row["suppressed"], row["share_percent"]) for row in rows] == [
        ("acme", "unsubscribed", 5, 62.5), ("acme", "complained", 3, 37.5),
    ]  # fmt: skip


def test_how_far_a_campaign_is(clickhouse: ClickHouse) -> None:
    (row,) = answer(clickhouse, "campaigns", campaign="autumn")
    shown = ("mails", "composed", "delivered", "bounced", "suppressed", "waiting", "done_percent")
    assert tuple(row[name] for name in shown) == (218, 210, 200, 10, 8, 0, 100)
    assert row["began_at"] == (NOW - timedelta(hours=3)).replace(second=0)


def test_tenants_beside_one_another(clickhouse: ClickHouse) -> None:
    rows = {row["tenant"]: row for row in answer(clickhouse, "tenants")}
    assert list(rows) == ["initech", "acme", "globex"]
    assert (rows["acme"]["delivered"], rows["acme"]["suppressed"], rows["acme"]["gigabytes"]) == (200, 8, 0)
    assert rows["acme"]["bounced_percent"] == pytest.approx(100 * 10 / 210, abs=0.01)
    assert rows["globex"]["deferrals_per_mail"] == 8


def test_variants_with_intervals_of_confidence(clickhouse: ClickHouse) -> None:
    counts = {"a": (120, 30), "b": (110, 44), "c": (20, 20)}
    for confidence in (0.8, 0.95, 0.99):
        rows = answer(clickhouse, "variants", campaign="test", metric="opened", confidence=str(confidence))
        assert [row["variant"] for row in rows] == ["a", "b", "c"]
        for row in rows:
            n, x = counts[row["variant"]]
            low, high = wilson(x, n, confidence)
            assert (row["mails"], row["reached"]) == (n, x), "somebody who opens twice is one mail"
            assert row["low_percent"] == pytest.approx(100 * low, abs=0.02)
            assert row["high_percent"] == pytest.approx(100 * high, abs=0.02)
    assert rows[0]["p_value"] is None
    assert rows[1]["difference"] == pytest.approx(100 * (44 / 110 - 30 / 120), abs=0.001)
    assert rows[1]["p_value"] == pytest.approx(two_proportions(44, 110, 30, 120), abs=1e-5)
    other = answer(clickhouse, "variants", campaign="test", metric="opened", control="b")
    assert [row["p_value"] is None for row in other] == [False, True, False]
    assert other[0]["p_value"] == rows[1]["p_value"]
    certain = answer(clickhouse, "variants", campaign="test")
    assert [(row["percent"], row["p_value"]) for row in certain] == [(100, None), (100, 1), (100, 1)]


def wilson(x: int, n: int, confidence: float) -> tuple[float, float]:
    """The interval as Wilson (1927) has it: where the normal approximation around p just reaches x / n."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = x / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def two_proportions(x: int, n: int, x0: int, n0: int) -> float:
    pooled = (x + x0) / (n + n0)
    z = (x / n - x0 / n0) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n0))
    return 2 * (1 - NormalDist().cdf(abs(z)))


def test_unknown_replies_that_are_alike_are_one(clickhouse: ClickHouse) -> None:
    (row,) = answer(clickhouse, "unknown_replies")
    assert (row["times"], row["sites"], row["top_sites"], row["bounced_percent"]) == (40, 1, "slow.example", 0)
    assert (row["smtp_code"], row["smtp_enhanced"], row["phase"]) == (451, "4.7.1", "rcpt")


def test_when_a_backlog_drains(clickhouse: ClickHouse) -> None:
    """5 of 40 were delivered in one minute, five minutes ago."""
    (row,) = answer(clickhouse, "backlogs")
    assert (row["site"], row["waiting"], row["best_per_minute"]) == ("slow.example", 35, 5)
    assert row["drains_in_minutes"] == row["alone_in_minutes"] == pytest.approx(35 / 5 * 10)
    assert row["drains_at"] == NOW + timedelta(minutes=70)
    assert row["at_best_minutes"] == 7
    (slower,) = answer(clickhouse, "backlogs", recent="2")
    assert slower["alone_in_minutes"] == pytest.approx(35 / 5 * 60), "nothing moved in two minutes: the hour counts"
    (still,) = answer(clickhouse, "backlogs", recent="2", minutes="3")
    assert (still["waiting"], still["drains_at"], still["alone_in_minutes"]) == (35, None, None)


def test_backlogs_and_deliverability_say_the_same_of_a_tenant_alone_and_of_all(clickhouse: ClickHouse) -> None:
    """Only globex has mail for slow.example: one is told from another table than the other."""
    for name in ("backlogs", "deliverability"):
        everybody = answer(clickhouse, name, site="slow.example")
        assert everybody == answer(clickhouse, name, site="slow.example", tenant="globex") != []
        assert answer(clickhouse, name, site="slow.example", tenant="acme") == []


def test_latency_is_the_same_of_everything_at_once_and_of_its_only_site(clickhouse: ClickHouse) -> None:
    """Times are known of mail to google.com alone."""
    assert answer(clickhouse, "latency") == answer(clickhouse, "latency", site="google.com") != []


def test_deliverability_shows_the_sites_with_the_most_mail_of_each_day(clickhouse: ClickHouse) -> None:
    rows = answer(clickhouse, "deliverability", limit="1")
    assert len({row["day"] for row in rows}) == len(rows) >= 2
    assert {row["site"] for row in rows} == {"google.com"}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["query", *arguments])


def test_the_command_prints_every_format(clickhouse: ClickHouse, tmp_path: Any) -> None:
    rows = json.loads(run("bounce_categories", "--format", "json").stdout)
    assert rows[0]["category"] == "invalid_recipient"
    assert json.loads(run("bounce_categories", "--json").stdout) == rows
    table = run("bounce_categories").stdout
    assert "Why mail was refused for good" in table
    assert "invalid_recipient" in table
    plot = run("bounce_categories", "-f", "plot").stdout
    bars = [line.count("█") for line in plot.splitlines() if "█" in line]
    assert len(bars) == 2
    assert bars[0] > 2 * bars[1] > 0
    read = list(csv.DictReader(io.StringIO(run("bounce_categories", "-f", "csv").stdout)))
    assert [(row["category"], int(row["bounced"])) for row in read] == [(r["category"], r["bounced"]) for r in rows]
    file = tmp_path / "bounces.parquet"
    assert run("bounce_categories", "-f", "parquet", "-o", str(file)).exit_code == 0
    assert file.read_bytes()[:4] == file.read_bytes()[-4:] == b"PAR1"


def test_the_command_lists_and_describes(clickhouse: ClickHouse) -> None:
    listed = run().stdout
    assert all(name in listed for name in ready_made())
    described = run("latency", "--describe").stdout
    assert "off by 4.4 %" in described
    assert "waits_per_hour" in described
    assert "SELECT" in described


def test_the_command_passes_parameters_and_says_when_there_is_nothing(clickhouse: ClickHouse) -> None:
    done = run("campaigns", "-p", "campaign=none", "--since", "2d", "--tenant", "acme")
    assert done.exit_code == 0
    assert "campaigns: nothing to tell with tenant=acme, campaign=none" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("latncy",), "there is no query 'latncy': did you mean latency?"),
        (("latency", "-p", "tennant=x"), "did you mean tenant?"),
        (("latency", "-p", "tenant"), "write NAME=VALUE"),
        (("latency", "-p", "tenant=x", "--tenant", "y"), "tenant is given twice"),
        (("latency", "--since", "soon"), "so much ago: 90m, 24h, 7d"),
        (("variants",), "needs --param campaign="),
        (("latency", "-o", "x"), "--output is for --format csv or parquet"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(clickhouse: ClickHouse, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_values_are_bound_and_never_become_sql(clickhouse: ClickHouse) -> None:
    done = run("campaigns", "-p", "campaign=' OR 1=1 --")
    assert done.exit_code == 0
    assert "nothing to tell" in done.stderr
