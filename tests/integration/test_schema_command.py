"""sluice schema: planned, applied, repeated, and told; and tenants' retention."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from sluice.adapters.clickhouse.migrations import migrations
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.commands.root import app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLUICE_CLICKHOUSE_URL", running.url)
        yield running.url
    structlog.reset_defaults()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["schema", *arguments])


def test_the_schema_is_planned_applied_and_then_up_to_date(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE_DATABASE", "planned")
    known = [one.name for one in migrations()]
    assert [row["name"] for row in json.loads(run("plan", "--json").stdout)] == known
    before = run("status", "--json")
    assert before.exit_code == 1
    assert {row["state"] for row in json.loads(before.stdout)} == {"pending"}
    assert [row["name"] for row in json.loads(run("apply", "--json").stdout)] == known
    assert run("apply").stdout == "nothing to do: the schema is up to date\n"
    assert run("plan").stdout == "nothing to do: the schema is up to date\n"
    assert run("status").exit_code == 0


def test_the_sql_of_a_plan_is_that_of_the_cluster_that_is_set(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE_DATABASE", "unplanned")
    alone = run("plan", "--sql").stdout
    assert "CREATE TABLE IF NOT EXISTS unplanned.outcomes\n" in alone
    assert "ON CLUSTER" not in alone
    monkeypatch.setenv("SLUICE_CLICKHOUSE_CLUSTER", "prod")
    clustered = run("plan", "--sql").stdout
    assert "CREATE TABLE IF NOT EXISTS unplanned.outcomes ON CLUSTER 'prod'\n" in clustered
    assert "ENGINE = ReplicatedAggregatingMergeTree(" in clustered
    monkeypatch.setenv("SLUICE_CLICKHOUSE_CLUSTER", "no cluster")
    assert run("plan", "--sql").exit_code == 2


def test_a_tenants_retention_is_set_shown_and_taken_back(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE_DATABASE", "retained")
    missing = run("retention")
    assert missing.exit_code == 1
    assert "sluice schema apply" in missing.stderr
    run("apply")
    assert run("retention").stdout == "all tenants' outcomes are kept for 13 months\n"
    assert run("retention", "acme", "--days", "90").exit_code == 0
    assert json.loads(run("retention", "--json").stdout) == [{"tenant_id": "acme", "days": 90}]
    assert run("retention", "acme").exit_code == 2
    assert run("retention", "--days", "9").exit_code == 2
    assert run("retention", "acme", "--default").exit_code == 0
    assert json.loads(run("retention", "--json").stdout) == []
