"""How long a tenant's rows are kept, where that is shorter than for all: TTL rules from the table tenant_retention."""

# ruff: noqa: S608  (only names of this module and the checked database name are put into SQL)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.clustered import for_cluster
from sluice.domain.errors import SluiceError

LONGEST = 400
"""Days; rules only shorten what the tables keep for all."""


class Kept(msgspec.Struct, frozen=True):
    """A tenant's own retention in days."""

    tenant_id: str
    days: int


class Rule(msgspec.Struct, frozen=True):
    """A table that holds tenants' rows: its time, what it keeps for all, and the setting that lets single rows go."""

    table: str
    time: str
    default: str
    days: int


RULES = (
    Rule("outcomes", "toDateTime(event_time)", "toStartOfMonth(toDateTime(event_time)) + INTERVAL 14 MONTH", LONGEST),
    Rule("mails", "toDateTime(last_at)", "toStartOfMonth(toDateTime(last_at)) + INTERVAL 14 MONTH", LONGEST),
    Rule("recipients", "seen_at", "seen_at + INTERVAL 30 DAY", 30),
)


def retention(clickhouse: ClickHouse) -> list[Kept]:
    """Tenants whose rows are kept for a time of their own, by name."""
    rows = clickhouse.rows(
        f"SELECT tenant_id, days FROM {clickhouse.database}.tenant_retention FINAL WHERE days > 0 ORDER BY tenant_id"
    )
    return [Kept(row["tenant_id"], row["days"]) for row in rows]


def keep_for(clickhouse: ClickHouse, tenant_id: str, days: int | None, by: str, cluster: str = "") -> list[str]:
    """Keep a tenant's rows for ``days``, None for as long as all others; returns the statements that were run.

    Raises :class:`SluiceError` for days that no rule can keep.
    """
    if days is not None and not 1 <= days < LONGEST:
        raise SluiceError(f"{days} days: a tenant's retention is 1 to {LONGEST - 1} days, or that of all others")
    row = msgspec.json.encode({"tenant_id": tenant_id, "days": days or 0, "set_by": by})
    clickhouse.insert(f"{clickhouse.database}.tenant_retention", row, "JSONEachRow", {})
    return enforce(clickhouse, cluster)


def enforce(clickhouse: ClickHouse, cluster: str = "") -> list[str]:
    """Make the tables' TTL rules what tenant_retention says; rows of age go with the next merges, within hours."""
    statements = [for_cluster(text, cluster) for text in rules(clickhouse.database, retention(clickhouse))]
    for statement in statements:
        clickhouse.command(statement)
    return statements


def rules(database: str, tenants: Iterable[Kept]) -> list[str]:
    """The statements that set the TTL of every table; pure.

    A tenant's limit moves on once a week, so that parts are rewritten once a week and not at every merge: rows are kept
    for up to seven days more.
    """
    by_days: dict[int, list[str]] = defaultdict(list)
    for entry in tenants:
        by_days[entry.days].append(entry.tenant_id)
    statements = []
    for rule in RULES:
        parts = [rule.default]
        for days, names in sorted(by_days.items()):
            if days < rule.days:
                listed = ", ".join(_quoted(name) for name in sorted(names))
                parts.append(
                    f"toDateTime(toMonday({rule.time})) + INTERVAL {days + 7} DAY DELETE WHERE tenant_id IN ({listed})"
                )
        name = f"{database}.{rule.table}"
        whole = 1 if len(parts) == 1 and rule.table != "mails" else 0
        statements.append(f"ALTER TABLE {name} MODIFY SETTING ttl_only_drop_parts = {whole}")
        statements.append(f"ALTER TABLE {name} MODIFY TTL {', '.join(parts)}")
    return statements


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("{", "\\x7b").replace("}", "\\x7d")
    return f"'{escaped.replace('%', chr(92) + 'x25')}'"
