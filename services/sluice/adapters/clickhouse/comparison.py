"""Whether two databases hold the same outcomes and the same rollups, whatever order they came in.

Each table is summed up by the server: how many rows there are once all of a key are folded, and two sums over a hash of
each. Left out are when a row was inserted, and digests, whose states depend on the order in which they were merged.
"""

# ruff: noqa: S608  (only names that ClickHouse's own catalogue gave are put into SQL)

from __future__ import annotations

import re
from datetime import date

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.restored import fed_tables

_TIMES = ("event_time", "minute", "hour", "day", "seen_at", "first_at")
"""What a row's time is called, in one table or another."""
_INSERTED = "recorded_at"
_DIGEST = re.compile(r"^AggregateFunction\(quantiles?TDigest")
_STATE = re.compile(r"^AggregateFunction\(")


class Days(msgspec.Struct, frozen=True):
    """Which days to look at, in UTC: from ``since`` on, and before ``before``. Whole days, as some rollups keep no
    others."""

    since: date | None = None
    before: date | None = None


class Held(msgspec.Struct, frozen=True):
    """What a table holds: rows, and what they sum up to."""

    rows: int
    sums: tuple[int, int]


class Compared(msgspec.Struct, frozen=True):
    """A table in one database and in the other; None where there is no such table."""

    table: str
    here: Held | None
    there: Held | None

    @property
    def equal(self) -> bool:
        """Whether both hold the same."""
        return self.here is not None and self.here == self.there


def compare(here: ClickHouse, there: ClickHouse, days: Days) -> list[Compared]:
    """Every table that outcomes end up in. Raises what the connections raise."""
    return [Compared(name, _held(here, name, days), _held(there, name, days)) for name in fed_tables(here.database)]


def _held(clickhouse: ClickHouse, table: str, days: Days) -> Held | None:
    columns = clickhouse.rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "ORDER BY name",
        {"database": clickhouse.database, "table": table},
    )
    if not columns:
        return None
    values = [_value(row["name"], row["type"]) for row in columns if _counts(row["name"], row["type"])]
    names = {row["name"] for row in columns}
    time = next(name for name in _TIMES if name in names)
    only, parameters = [], {}
    for option, sign in (("since", ">="), ("before", "<")):
        if (day := getattr(days, option)) is not None:
            only.append(f"toDate({time}) {sign} {{{option}:Date}}")
            parameters[option] = day
    engine = clickhouse.rows(
        "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": clickhouse.database, "table": table},
    )[0]["engine"]
    # Rows of a key that no merge has folded yet are one row only with FINAL, which a plain MergeTree does not take.
    final = "" if engine.endswith("MergeTree") and engine.removeprefix("Replicated") == "MergeTree" else "FINAL"
    (found,) = clickhouse.rows(
        f"SELECT count() AS n, sum(hashed) AS added, groupBitXor(hashed) AS crossed FROM "
        f"(SELECT sipHash64({', '.join(values)}) AS hashed FROM {clickhouse.database}.{table} {final} "
        f"{'WHERE ' + ' AND '.join(only) if only else ''})",
        parameters,
    )
    return Held(found["n"], (found["added"], found["crossed"]))


def _counts(name: str, kind: str) -> bool:
    return name != _INSERTED and not _DIGEST.match(kind)


def _value(name: str, kind: str) -> str:
    """The column as text: hashes treat NULL as they please, and different types of one value differently."""
    if _STATE.match(kind):
        name = f"finalizeAggregation({name})"
    return f"ifNull(toString({name}), 'NULL')"
