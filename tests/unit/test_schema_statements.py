"""The schema's SQL as text: on a cluster of replicas, and tenants' retention. No cluster runs here, so what a cluster
would be told is looked at, and not what it does."""

import re

import pytest

from sluice.adapters.clickhouse.backfill import view_of
from sluice.adapters.clickhouse.clustered import for_cluster
from sluice.adapters.clickhouse.migrations import migrations, statements
from sluice.adapters.clickhouse.retention import RULES, Kept, rules
from sluice.domain.errors import SluiceError


def test_every_statement_of_the_schema_reaches_all_replicas() -> None:
    made = statements(migrations(), "sluice", "mail-prod")
    assert len(made) > len(migrations())
    for statement in made:
        assert statement.count("ON CLUSTER 'mail-prod'") == 1, statement
        assert re.match(r"(CREATE|ALTER|DROP) [A-Z ]+ sluice(\.\w+)? ON CLUSTER 'mail-prod'", statement), statement


def test_every_table_on_a_cluster_is_replicated_and_remembers_batches_for_a_week() -> None:
    tables = [text for text in statements(migrations(), "sluice", "c") if re.match(r"CREATE TABLE ", text)]
    assert len(tables) >= 8
    for table in tables:
        engine = re.search(r"^ENGINE = (\w+)\((.*)\)$", table, re.MULTILINE)
        assert engine, table
        assert re.fullmatch(r"Replicated(Aggregating|Replacing)?MergeTree", engine[1])
        assert engine[2].startswith("'/clickhouse/tables/{uuid}/{shard}', '{replica}'")
        assert "non_replicated" not in table
    kept = [table for table in tables if "deduplication" in table]
    assert len(kept) >= 6
    assert all("replicated_deduplication_window_seconds = 604800" in table for table in kept)


def test_engine_arguments_are_kept_after_the_path() -> None:
    made = for_cluster("CREATE TABLE IF NOT EXISTS s.x (a Int8)\nENGINE = ReplacingMergeTree(seen_at)\nORDER BY a", "c")
    assert "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', seen_at)" in made


def test_one_server_is_told_what_the_files_say() -> None:
    written = [text for entry in migrations() for text in entry.statements("sluice")]
    assert statements(migrations(), "sluice")[2:] == written


@pytest.mark.parametrize("name", ["a'b", "1st", "x; DROP"])
def test_a_strange_cluster_name_is_refused(name: str) -> None:
    with pytest.raises(SluiceError, match="cluster name"):
        for_cluster("CREATE DATABASE IF NOT EXISTS x", name)


def test_a_statement_that_would_reach_one_replica_only_is_refused() -> None:
    with pytest.raises(SluiceError, match="cannot be run on a cluster"):
        for_cluster("INSERT INTO s.x VALUES (1)", "c")


def test_every_materialised_view_of_the_schema_can_be_filled_from_what_was_there() -> None:
    made = [text for entry in migrations() for text in entry.statements("sluice") if "MATERIALIZED VIEW" in text]
    assert len(made) >= 6
    filled = {"sluice.outcomes"}
    for text in made:
        view = view_of(text)
        assert view is not None, text
        assert view.source in filled, "what it is filled from has to be filled before"
        filled.add(view.target)
        assert view.select.startswith("SELECT")


def test_tenants_with_the_same_retention_share_a_rule() -> None:
    made = rules("s", [Kept("acme", 30), Kept("globex", 30), Kept("o'neil", 7)])
    outcomes = next(text for text in made if text.startswith("ALTER TABLE s.outcomes MODIFY TTL"))
    assert outcomes.count("DELETE WHERE") == 2
    assert "INTERVAL 37 DAY DELETE WHERE tenant_id IN ('acme', 'globex')" in outcomes
    assert "INTERVAL 14 DAY DELETE WHERE tenant_id IN ('o\\'neil')" in outcomes
    recipients = next(text for text in made if text.startswith("ALTER TABLE s.recipients MODIFY TTL"))
    assert recipients.count("DELETE WHERE") == 1, "thirty days are what recipients are kept anyway"
    assert "ALTER TABLE s.outcomes MODIFY SETTING ttl_only_drop_parts = 0" in made


def test_without_tenants_of_their_own_time_the_rules_are_those_of_the_schema() -> None:
    made = rules("s", [])
    written = "\n".join(text for entry in migrations() for text in entry.statements("s"))
    for rule in RULES:
        assert f"ALTER TABLE s.{rule.table} MODIFY TTL {rule.default}" in made
        assert rule.default in written
