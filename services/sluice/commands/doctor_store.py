"""The doctor's look at ClickHouse: reachable, schema, clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sluice.commands.findings import Finding, doubtful, guarded, ok, wrong
from sluice.runtime import console as parts
from sluice.runtime.config import Settings

_OFF_S = 2.0


def look_at_store(settings: Settings) -> Iterator[Finding]:
    """Findings about ClickHouse."""
    remedy = "start it: sluice up; or set SLUICE_CLICKHOUSE_URL, _USER and _PASSWORD"
    yield from guarded("ClickHouse", remedy, lambda: _store(settings))


def _store(settings: Settings) -> Iterator[Finding]:
    with parts.clickhouse(settings) as store:
        yield ok("ClickHouse", f"version {store.version()} answers at {store.target.shown}")
        # A number, not a time: drivers disagree about the zone of a time.
        now = store.rows("SELECT toUnixTimestamp64Milli(now64(3)) AS now")[0]["now"] / 1000
        off = abs(now - datetime.now(UTC).timestamp())
        if off > _OFF_S:
            yield doubtful("clock", f"ClickHouse's differs from this machine's by {off:.1f} s", "run NTP on both")
        else:
            yield ok("clock", "ClickHouse's and this machine's agree")
        steps = parts.migrations().plan(store)
        pending = [f"{step.migration.version:04d}_{step.migration.name}" for step in steps if step.state == "pending"]
    if pending:
        yield wrong("schema", f"not applied: {', '.join(pending)}", "sluice schema apply")
    else:
        yield ok("schema", f"all {len(steps)} migrations applied to {settings.clickhouse_database}")
