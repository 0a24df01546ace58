"""What the tables that outcomes are recorded in hold: whether anything, and how far the log is in them."""

# ruff: noqa: S608  (only names of the schema and the checked database name are put into SQL)

from __future__ import annotations

from sluice.adapters.clickhouse.backfill import view_of
from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.migrations import migrations


def fed_tables(database: str) -> list[str]:
    """Every table that a recorded batch ends up in, rollups included, in the order of their migrations; without the
    database."""
    views = [view for entry in migrations() for text in entry.statements(database) if (view := view_of(text))]
    targets = [view.target.rpartition(".")[2] for view in views]
    return list(dict.fromkeys(("outcomes", "recipients", *targets)))


def rows_held(clickhouse: ClickHouse) -> dict[str, int]:
    """Rows by table, of those that hold any; rows that a merge has yet to fold count each. Empty without a schema."""
    found = clickhouse.rows(
        "SELECT name, toUInt64(ifNull(total_rows, 0)) AS held FROM system.tables "
        "WHERE database = {database:String} AND name IN {names:Array(String)}",
        {"database": clickhouse.database, "names": fed_tables(clickhouse.database)},
    )
    return {row["name"]: row["held"] for row in found if row["held"]}


def log_ends(clickhouse: ClickHouse) -> dict[int, int]:
    """By partition of the log, the offset after the last outcome that is in ``outcomes``."""
    found = clickhouse.rows(
        f"SELECT log_partition AS part, max(log_offset) + 1 AS following FROM {clickhouse.database}.outcomes "
        "GROUP BY log_partition"
    )
    return {row["part"]: row["following"] for row in found}
