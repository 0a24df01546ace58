"""Mails to drive again, and what became of them (schemas/clickhouse/0014_redrive.sql). Reads only."""

# ruff: noqa: S608  (what is put into SQL: the checked database name, checked predicates, and literals of our own)

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sluice.adapters.clickhouse.client import ClickHouse, ClickHouseAway, ClickHouseRefused
from sluice.adapters.clickhouse.predicate import checked
from sluice.adapters.clickhouse.queries import literal
from sluice.adapters.clickhouse.redrive_plans import ClickHousePlans
from sluice.domain.outcome import Source
from sluice.domain.redrive import Candidate, Plan
from sluice.ports.redrive import Limits, MailName, PredicateRefused, Results, TooMany

_OF_THE_PREDICATE = frozenset((43, 53, 70, 6, 27, 36, 38, 41, 42, 69, 72, 386, 427))
"""ClickHouse's errors for what does not fit: types, arguments, times and patterns that cannot be read."""
_TOO_MUCH = {158: "rows read", 159: "seconds", 160: "seconds", 241: "bytes of memory", 396: "mails selected"}


class ClickHouseMails:
    """See :class:`sluice.ports.redrive.Mails`."""

    def __init__(self, clickhouse: ClickHouse, plans: ClickHousePlans) -> None:
        self._clickhouse = clickhouse
        self._plans = plans

    def select(self, predicate: str, tenant_id: str, *, dead_letters: bool, limits: Limits) -> list[Candidate]:
        """See the port."""
        conditions = [f"({checked(predicate)})"]
        if tenant_id:
            conditions.append(f"tenant_id = {literal(tenant_id)}")
        if dead_letters:
            conditions.append("event_type = 'dead'")
        names = (
            f"SELECT tenant_id, message_id FROM {self._clickhouse.database}.outcomes WHERE {' AND '.join(conditions)}"
        )
        settings = {
            "readonly": 2,
            "max_execution_time": limits.seconds,
            "max_memory_usage": limits.memory,
            "max_rows_to_read": limits.rows,
            "max_result_rows": limits.mails,
            "read_overflow_mode": "throw",
            "result_overflow_mode": "throw",
            "timeout_overflow_mode": "throw",
            "allow_introspection_functions": 0,
        }
        try:
            found = self._facts(names, self._claims(), settings)
        except (ClickHouseAway, ClickHouseRefused) as error:
            raise _explained(error, limits) from error
        return found

    def look(self, names: Sequence[MailName]) -> dict[MailName, Candidate]:
        """See the port."""
        if not names:
            return {}
        listed = ", ".join(f"({literal(tenant)}, {literal(mail)})" for tenant, mail in names)
        found = self._facts(listed, "''", {"readonly": 2, "max_query_size": 64 << 20})
        return {(mail.tenant_id, mail.message_id): mail for mail in found}

    def results(self, plan: Plan) -> Results:
        """See the port."""
        database = self._clickhouse.database
        rows = self._clickhouse.rows(
            "SELECT if(state = 'rejected' AND category IN ('duplicate', 'idempotency_conflict'), 'repeat', state) "
            "AS end, "
            f"count() AS mails FROM {database}.mail_state WHERE (tenant_id, message_id) IN "
            f"(SELECT tenant_id, message_id FROM {database}.outcomes WHERE redrive_plan = {literal(plan.plan_id)} "
            "AND redrive_of != '' "
            "AND event_time >= {since:DateTime64(3, 'UTC')}) GROUP BY end",
            {"since": plan.created_at},
            {"readonly": 2},
        )
        states = {row["end"]: int(row["mails"]) for row in rows}
        return Results(states, states.pop("repeat", 0))

    def _facts(self, names: str, claims: str, settings: dict[str, Any]) -> list[Candidate]:
        """Everything that decides on mails; ``names`` is what stands after IN, within its parentheses, ``claims`` as of
        :meth:`_claims`. A mail's state comes from ``mail_state``, the rest from its outcomes."""
        database = self._clickhouse.database
        suppressed = (
            f"SELECT tenant_id, recipient_hash, stream FROM {database}.ref_suppressions FINAL "
            "WHERE expires_at IS NULL OR expires_at > now()"
        )
        rows = self._clickhouse.rows(
            "SELECT m.tenant_id AS tenant_id, m.message_id AS message_id, toString(m.state) AS state, m.site AS site, "
            "m.category AS category, m.recipient_domain AS recipient_domain, m.was_in_doubt AS in_doubt, "
            f"(m.tenant_id, o.hash, '') IN ({suppressed}) OR (m.tenant_id, o.hash, o.of_stream) IN ({suppressed}) "
            "AS suppressed, o.driven AS driven, o.until AS until, o.content.1 AS topic, o.content.2 AS partition, "
            "o.content.3 AS offset, "
            f"{claims} AS claimed "
            f"FROM {database}.mail_state AS m INNER JOIN ("
            "SELECT tenant_id, message_id, anyIf(recipient_hash, recipient_hash != '') AS hash, "
            "anyIf(toString(stream), stream != '') AS of_stream, max(expires_at) AS until, "
            "anyIf(toString(redrive_plan), event_type = 'redriven' AND redrive_plan != '') AS driven, "
            "argMaxIf((toString(source_topic), source_partition, source_offset), event_time, "
            "startsWith(source_topic, 'mail.send.')) AS content "
            f"FROM {database}.outcomes WHERE (tenant_id, message_id) IN ({names}) GROUP BY tenant_id, message_id"
            ") AS o ON o.tenant_id = m.tenant_id AND o.message_id = m.message_id "
            f"WHERE (m.tenant_id, m.message_id) IN ({names}) ORDER BY message_id, tenant_id",
            {},
            settings,
        )
        return [_candidate(row) for row in rows]

    def _claims(self) -> str:
        """SQL for the plan that a mail waits in to be driven by, of those that were started; empty text for none.

        Asked when a plan is made, and not when it is driven: two plans would leave a mail to one another.
        """
        active = self._plans.active()
        if not active:
            return "''"
        cases = (
            f"(m.tenant_id, m.message_id) IN (SELECT tenant_id, message_id "
            f"FROM {self._clickhouse.database}.redrive_mails WHERE plan_id = {literal(each)} "
            f"AND excluded = '' AND number >= {next_:d}), {literal(each)}"
            for each, next_ in active
        )
        return f"multiIf({', '.join(cases)}, '')"


def _candidate(row: dict[str, Any]) -> Candidate:
    topic = row["topic"]
    return Candidate(
        tenant_id=row["tenant_id"],
        message_id=row["message_id"],
        state=row["state"],
        site=row["site"],
        category=row["category"],
        recipient_domain=row["recipient_domain"],
        in_doubt=bool(row["in_doubt"]),
        suppressed=bool(row["suppressed"]),
        driven_by=row["driven"] or row["claimed"],
        expires_at=row["until"],
        content=Source(topic, int(row["partition"]), int(row["offset"])) if topic else None,
    )


def _explained(error: ClickHouseAway | ClickHouseRefused, limits: Limits) -> Exception:
    code = getattr(error, "code", None) or _code(str(error))
    if code in _TOO_MUCH:
        return TooMany(
            f"too much for one plan ({_TOO_MUCH[code]}); allowed are {limits.mails:,} mails, "
            f"{limits.seconds:g} seconds, {limits.memory / (1 << 20):,.0f} MiB and {limits.rows:,} rows. Narrow the "
            "predicate: a span of event_time and a tenant help most"
        )
    if code in _OF_THE_PREDICATE:
        return PredicateRefused(f"ClickHouse cannot follow the predicate: {error}")
    return error


def _code(text: str) -> int | None:
    match = re.search(r"[Cc]ode:? (\d+)", text)
    return int(match[1]) if match else None
