"""What reports of TLS are made of, and which were sent (schemas/clickhouse/0016_tls_sessions.sql)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.domain.tls_report import Counted


class Reportable(msgspec.Struct, frozen=True):
    """A domain with sessions on a day: how many, how many of them failed, and how many places have a report of it."""

    domain: str
    sessions: int
    failures: int
    sent: int


class Sent(msgspec.Struct, frozen=True):
    """A report that was sent to one place. ``message_id`` is empty for a POST; ``sessions`` are all it tells of."""

    day: date
    domain: str
    endpoint: str
    report_id: str
    message_id: str
    sessions: int
    failures: int


class TlsReports:
    """Reads and notes. All raise what the connection raises."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def reportable(self, day: date) -> list[Reportable]:
        """Domains that mail went to on ``day`` (UTC), those with most failures first."""
        rows = self._rows(
            "SELECT domain, sum(s.sessions) AS sessions, sumIf(s.sessions, result != '') AS failures, "
            "any(t.places) AS sent FROM {db}.tls_sessions_per_day AS s LEFT JOIN "
            "(SELECT domain, uniqExact(endpoint) AS places FROM {db}.tls_reports_sent WHERE day = {day:Date} "
            "GROUP BY domain) AS t USING domain WHERE day = {day:Date} "
            "GROUP BY domain ORDER BY failures DESC, sessions DESC, domain",
            {"day": day},
        )
        return [msgspec.convert(row, Reportable, strict=False) for row in rows]

    def counted(self, day: date, domain: str) -> list[Counted]:
        """The day's sessions with a domain (A-label form); empty when there were none."""
        rows = self._rows(
            "SELECT policy_type, policy, mx, result, sending_ip, mx_host, receiving_ip, reason, "
            "sum(s.sessions) AS sessions FROM {db}.tls_sessions_per_day AS s "
            "WHERE day = {day:Date} AND domain = {domain:String} GROUP BY ALL ORDER BY ALL",
            {"day": day, "domain": domain},
        )
        return [msgspec.convert(row, Counted, strict=False) for row in rows]

    def sent(self, day: date, domain: str) -> list[str]:
        """The endpoints that have this report already."""
        rows = self._rows(
            "SELECT DISTINCT endpoint FROM {db}.tls_reports_sent WHERE day = {day:Date} AND domain = {domain:String} "
            "ORDER BY endpoint",
            {"day": day, "domain": domain},
        )
        return [row["endpoint"] for row in rows]

    def note(self, sent: Sequence[Sent]) -> None:
        """Remember that reports were sent."""
        rows = msgspec.json.Encoder().encode_lines(sent)
        self._clickhouse.insert(f"{self._clickhouse.database}.tls_reports_sent", rows, "JSONEachRow", {})

    def _rows(self, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        return self._clickhouse.rows(sql.replace("{db}", self._clickhouse.database), parameters)
