"""Filling the target of a new materialised view with what was recorded before the view was there."""

from __future__ import annotations

import re

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.clustered import for_cluster

_VIEW = re.compile(
    r"^CREATE\s+MATERIALIZED\s+VIEW\s+IF\s+NOT\s+EXISTS\s+[\w.]+\s+TO\s+(?P<target>[\w.]+)\s+AS\s+"
    r"(?P<select>SELECT\b.*?\bFROM\s+(?P<source>[\w.]+).*)$",
    re.DOTALL,
)

_SETTINGS = {"max_insert_threads": 1, "max_execution_time": 0, "optimize_aggregation_in_order": 0}


class View(msgspec.Struct, frozen=True):
    """A materialised view: what it reads, by which query, and where to."""

    source: str
    target: str
    select: str


def view_of(statement: str) -> View | None:
    """The view that a statement makes, or None when it makes none."""
    match = _VIEW.match(statement)
    return View(match["source"], match["target"], match["select"]) if match else None


def fill(clickhouse: ClickHouse, view: View, cluster: str = "") -> bool:
    """Fill the view's target from its source, anew; False when there is nothing to fill it from.

    Safe to repeat: the target is emptied first. What is inserted into the source at the same moment may be counted
    twice or not at all, so nothing should be: outcomes wait in Kafka while the record service is stopped.
    """
    if not clickhouse.rows(f"SELECT 1 AS found FROM {view.source} LIMIT 1"):  # noqa: S608 (names of a migration)
        return False
    columns = ", ".join(row["name"] for row in clickhouse.rows(f"DESCRIBE TABLE ({view.select})"))
    clickhouse.command(for_cluster(f"TRUNCATE TABLE {view.target}", cluster))
    database, _, table = view.source.rpartition(".")
    parts = clickhouse.rows(
        "SELECT DISTINCT partition_id AS id FROM system.parts "
        "WHERE active AND database = {database:String} AND table = {table:String} ORDER BY id",
        {"database": database, "table": table},
    )
    for part in parts:
        # A partition at a time: memory and the time of one statement stay bounded.
        only = f"{{'{view.source}': '_partition_id = \\'{part['id']}\\''}}"
        clickhouse.command(
            f"INSERT INTO {view.target} ({columns}) {view.select}",
            {**_SETTINGS, "additional_table_filters": only},
        )
    return True
