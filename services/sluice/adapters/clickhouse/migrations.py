"""Bringing a ClickHouse to the schema of this version: numbered SQL files, each applied once.

ClickHouse has no transactional DDL, so every statement of a file must be safe to repeat (IF NOT EXISTS, OR REPLACE): a
file that failed half-way is simply applied again. Applied files are remembered with a checksum and must not change.

A materialised view sees only what is inserted after it was made. Where its source holds rows already, its target is
filled from them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import msgspec

from sluice.adapters.clickhouse.backfill import fill, view_of
from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.clustered import for_cluster
from sluice.domain.errors import SluiceError

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SchemaError(SluiceError):
    """The operator's fault: migrations at hand and migrations applied do not fit; the message says how to go on."""


class Migration(msgspec.Struct, frozen=True):
    """One file. ``checksum`` is SHA-256 of its bytes, hexadecimal."""

    version: int
    name: str
    checksum: str
    sql: str

    def statements(self, database: str) -> list[str]:
        """Its statements, for ``database``; they end with a semicolon at the end of a line."""
        text = "\n".join(line for line in self.sql.splitlines() if not line.lstrip().startswith("--"))
        parts = re.split(r";[ \t]*(?:\n|$)", text.replace("{database}", database))
        return [part.strip() for part in parts if part.strip()]


class Step(msgspec.Struct, frozen=True):
    """A migration and where it stands."""

    migration: Migration
    state: Literal["applied", "pending"]


def migrations() -> list[Migration]:
    """The files that this version carries, in order. Raises :class:`SchemaError` for gaps or wrong names."""
    found = []
    for file in sorted(schema_folder().iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise SchemaError(f"{file.name}: a migration is named NNNN_what_it_makes.sql")
        content = file.read_bytes()
        found.append(Migration(int(match[1]), match[2], hashlib.sha256(content).hexdigest(), content.decode()))
    if [entry.version for entry in found] != list(range(1, len(found) + 1)):
        raise SchemaError("migrations must be numbered 0001, 0002, … without gaps")
    return found


def plan(clickhouse: ClickHouse, available: Sequence[Migration] | None = None) -> list[Step]:
    """Every migration and whether it is applied; changes nothing.

    Raises :class:`SchemaError` when an applied file was edited, or when the database is ahead of this version.
    """
    files = migrations() if available is None else available
    applied = _applied(clickhouse)
    known = {entry.version for entry in files}
    if ahead := sorted(set(applied) - known):
        raise SchemaError(
            f"database {clickhouse.database} has migration {ahead[-1]:04d}, which this version of Sluice does not "
            "know: use the version that applied it, or a later one"
        )
    for entry in files:
        if entry.version in applied and applied[entry.version] != entry.checksum:
            raise SchemaError(
                f"migration {entry.version:04d}_{entry.name} was edited after it was applied to database "
                f"{clickhouse.database}: restore the file and put the change into a new migration"
            )
    return [Step(entry, "applied" if entry.version in applied else "pending") for entry in files]


def statements(pending: Sequence[Migration], database: str, cluster: str = "") -> list[str]:
    """What :func:`apply` would run for ``pending``, in order; filling rollups from what is there already left out."""
    name = _checked(database)
    return [
        for_cluster(statement, cluster)
        for statement in (*_bookkeeping(name), *(text for entry in pending for text in entry.statements(name)))
    ]


def _bookkeeping(database: str) -> tuple[str, str]:
    return (
        f"CREATE DATABASE IF NOT EXISTS {database}",
        (
            f"CREATE TABLE IF NOT EXISTS {database}.schema_migrations (version UInt32, name String, checksum String, "
            "applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))\nENGINE = MergeTree\nORDER BY version"
        ),
    )


def apply(clickhouse: ClickHouse, available: Sequence[Migration] | None = None, cluster: str = "") -> list[Migration]:
    """Apply what is pending, in order; returns what was applied now.

    Safe to repeat, and to run twice at once as long as nothing has been recorded. ``cluster`` names the cluster on
    whose replicas the tables are to be; empty for one server.
    """
    steps = plan(clickhouse, available)
    database = _checked(clickhouse.database)
    pending = [step.migration for step in steps if step.state == "pending"]
    if not pending:
        return []
    for statement in _bookkeeping(database):
        clickhouse.command(for_cluster(statement, cluster))
    for entry in pending:
        for statement in entry.statements(database):
            clickhouse.command(for_cluster(statement, cluster))
            if view := view_of(statement):
                fill(clickhouse, view, cluster)
        row = msgspec.json.encode({"version": entry.version, "name": entry.name, "checksum": entry.checksum})
        clickhouse.insert(f"{database}.schema_migrations", row, "JSONEachRow", {})
    return pending


def _applied(clickhouse: ClickHouse) -> dict[int, str]:
    """Checksum by version, of what was applied; empty when there is no database yet."""
    database = _checked(clickhouse.database)
    exists = clickhouse.rows(
        "SELECT 1 AS found FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'",
        {"database": database},
    )
    if not exists:
        return {}
    rows = clickhouse.rows(
        f"SELECT version, argMin(checksum, applied_at) AS checksum FROM {database}.schema_migrations GROUP BY version"  # noqa: S608 (checked name)
    )
    return {row["version"]: row["checksum"] for row in rows}


def _checked(database: str) -> str:
    if not _DATABASE.fullmatch(database):
        raise SchemaError(f"database name {database!r}: letters, digits and underscores only, beginning with a letter")
    return database


def schema_folder() -> Traversable:
    """The SQL files: inside the installed package, or at the root of the source tree."""
    packaged = resources.files("sluice") / "schemas" / "clickhouse"
    if packaged.is_dir():
        return packaged
    source = Path(__file__).resolve().parents[4] / "schemas" / "clickhouse"
    if source.is_dir():
        return source
    raise SchemaError("the migrations are missing from this installation: install sluice-mail again")
