"""What the command line asks ClickHouse, as typed results. Reads only."""

# ruff: noqa: S608  (only names of this module and the checked database name are put into SQL; values are parameters)

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.domain.conversation import Exchange
from sluice.domain.events import Priority

State = Literal["delivered", "bounced", "suppressed", "rejected", "expired", "dead", "cancelled", "waiting"]
STATES: tuple[State, ...] = (
    "delivered", "bounced", "suppressed", "rejected", "expired", "dead", "cancelled", "waiting",
)  # fmt: skip


class Scope(msgspec.Struct, frozen=True):
    """Which mails: those with an outcome at or after ``since``, and/or of a tenant or a campaign, and/or by id.

    An empty scope is every mail. ``message_ids`` None leaves ids open; an empty list is no mail at all.
    """

    since: datetime | None = None
    tenant_id: str | None = None
    campaign_id: str | None = None
    message_ids: Sequence[str] | None = None


EVERYTHING = Scope()


class Equation(msgspec.Struct, frozen=True):
    """``accepted`` is every mail that has any outcome; each of them is in exactly one of the other counts."""

    accepted: int
    delivered: int = 0
    bounced: int = 0
    suppressed: int = 0
    rejected: int = 0
    expired: int = 0
    dead: int = 0
    cancelled: int = 0
    waiting: int = 0

    @property
    def difference(self) -> int:
        """Mails that are in no count: zero, or something is wrong."""
        return self.accepted - sum(int(getattr(self, state)) for state in STATES)


class Entry(msgspec.Struct, frozen=True):
    """One line of a mail's timeline. Absent text is empty; times are UTC; waits and durations in milliseconds."""

    event_time: datetime
    event_type: str
    tenant_id: str
    site: str
    attempt: int
    smtp_code: int
    smtp_enhanced: str
    smtp_phase: str
    smtp_text: str
    category: str
    fault: str
    rule: str
    field: str
    reason: str
    mx_host: str
    mx_address: str
    egress: str
    tls_version: str
    wait_queue_ms: int
    wait_schedule_ms: int
    wait_rate_ms: int
    wait_connection_ms: int
    wait_retry_ms: int
    duration_ms: float
    next_attempt_at: datetime | None
    recorded_at: datetime
    event_id: str
    queued_at: datetime | None
    rfc5322_message_id: str
    trace_id: str
    tls_policy: str
    tls_cipher: str
    node: str
    redrive_plan: str
    redrive_of: str
    conversation: list[Exchange]
    connection_mail: int


class Site(msgspec.Struct, frozen=True):
    """Mails of one site by state; latency from publish to the 250, None when nothing was delivered."""

    site: str
    mails: int
    delivered: int
    bounced: int
    expired: int
    waiting: int
    deferred: int
    """Of the waiting, those that were deferred at least once."""
    other: int
    p50_ms: float | None
    p99_ms: float | None
    top_category: str
    """The commonest category among mails that are not delivered."""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from publish to the 250 of ``count`` mails; None when there are none."""

    count: int
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


class Queries:
    """The questions. All raise :class:`ClickHouseAway` and :class:`ClickHouseRefused`."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._database = clickhouse.database

    def equation(self, scope: Scope = EVERYTHING) -> Equation:
        """How many mails there are, and where they stand."""
        where, parameters = self._mails(scope)
        rows = self._rows(f"SELECT state, count() AS mails FROM {{db}}.mail_state {where} GROUP BY state", parameters)
        counts = {row["state"]: row["mails"] for row in rows}
        return Equation(accepted=sum(counts.values()), **{state: counts.get(state, 0) for state in STATES})

    def timeline(self, message_id: str) -> list[Entry]:
        """Everything that happened to a mail, in order; empty when it is not known (yet)."""
        columns = ", ".join(name for name in Entry.__struct_fields__)
        rows = self._rows(
            f"SELECT {columns} FROM {{db}}.outcomes WHERE message_id = {{message_id:String}} "
            "ORDER BY event_time, attempt, log_partition, log_offset",
            {"message_id": message_id},
        )
        return [msgspec.convert(row, Entry, strict=False) for row in rows]

    def sites(self, scope: Scope = EVERYTHING) -> list[Site]:
        """Where the mails of each site stand; the site with the most mails first."""
        where, parameters = self._mails(scope)
        rows = self._rows(
            "SELECT site, count() AS mails, countIf(state = 'delivered') AS delivered, "
            "countIf(state = 'bounced') AS bounced, countIf(state = 'expired') AS expired, "
            "countIf(state = 'waiting') AS waiting, countIf(state = 'waiting' AND deferrals > 0) AS deferred, "
            "mails - delivered - bounced - expired - waiting AS other, "
            f"{_quantile(0.5)} AS p50_ms, {_quantile(0.99)} AS p99_ms, "
            "arrayElement(topKIf(1)(category, state != 'delivered' AND category != ''), 1) AS top_category "
            f"FROM {{db}}.mail_state {where} GROUP BY site ORDER BY mails DESC, site",
            parameters,
        )
        return [msgspec.convert(row, Site, strict=False) for row in rows]

    def latency(self, scope: Scope = EVERYTHING, priority: Priority | None = None) -> Latency:
        """How long mails took from publish to the 250, exactly."""
        where, parameters = self._mails(scope)
        if priority is not None:
            where += " AND priority = {priority:String}" if where else "WHERE priority = {priority:String}"
            parameters["priority"] = priority
        rows = self._rows(
            f"SELECT countIf({_DELIVERED}) AS count, {_quantile(0.5)} AS p50_ms, {_quantile(0.9)} AS p90_ms, "
            f"{_quantile(0.99)} AS p99_ms, maxOrNullIf({_MILLISECONDS}, {_DELIVERED}) AS max_ms "
            f"FROM {{db}}.mail_state {where}",
            parameters,
        )
        return msgspec.convert(rows[0], Latency, strict=False)

    def message_ids(self, states: Sequence[State], scope: Scope = EVERYTHING) -> list[str]:
        """The ids of mails that stand at one of ``states``, for reconciling with what a mailbox holds."""
        where, parameters = self._mails(scope)
        where += " AND " if where else "WHERE "
        rows = self._rows(
            f"SELECT message_id FROM {{db}}.mail_state {where} has({{states:Array(String)}}, state)",
            {**parameters, "states": list(states)},
        )
        return [row["message_id"] for row in rows]

    def _mails(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """A WHERE clause on mail_state that picks whole mails, by a condition on any row of theirs in mails, which need
        not be folded for that."""
        conditions: list[str] = []
        parameters: dict[str, Any] = {}
        outcomes: list[str] = []
        if scope.since is not None:
            outcomes.append("last_at >= {since:DateTime64(3, 'UTC')}")
            parameters["since"] = scope.since
        for name in ("tenant_id", "campaign_id"):
            if (value := getattr(scope, name)) is not None:
                outcomes.append(f"{name} = {{{name}:String}}")
                parameters[name] = value
        if outcomes:
            conditions.append(f"message_id IN (SELECT message_id FROM {{db}}.mails WHERE {' AND '.join(outcomes)})")
        if scope.tenant_id is not None:
            conditions.append("tenant_id = {tenant_id:String}")
        if scope.message_ids is not None:
            # In the text and not as a parameter: servers take no form field of more than 128 KB.
            conditions.append(f"message_id IN ({', '.join(map(literal, scope.message_ids)) or 'NULL'})")
        return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), parameters

    def _rows(self, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        return self._clickhouse.rows(sql.replace("{db}", self._database), parameters, {"max_query_size": 64 << 20})


_MILLISECONDS = "dateDiff('millisecond', assumeNotNull(queued_at), assumeNotNull(delivered_at))"
_DELIVERED = "isNotNull(delivered_at) AND isNotNull(queued_at)"


def _quantile(level: float) -> str:
    return f"quantileExactOrNullIf({level})({_MILLISECONDS}, {_DELIVERED})"


def literal(text: str) -> str:
    """A text as a literal of SQL that no client reads anything into."""
    # Braces would be read as a parameter's, a percent sign as a placeholder of the client.
    escaped = "".join(c if c.isalnum() or c in "._:@/+- " else "".join(f"\\x{b:02x}" for b in c.encode()) for c in text)
    return f"'{escaped}'"
