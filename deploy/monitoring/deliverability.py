"""The dashboard over ClickHouse: the ready-made queries as tables, and how mail fared over time.

For Grafana's ClickHouse data source (grafana-clickhouse-datasource), whose user needs to read Sluice's database only.
"""

from __future__ import annotations

import re
from typing import Any

from sluice.adapters.clickhouse.ready_made import find_query

SOURCE = {"type": "grafana-clickhouse-datasource", "uid": "${source}"}
FORMATS = {"timeseries": 0, "table": 1}
VARIABLES = {"tenant": "Tenant, all when empty", "site": "Site, all when empty"}
"""What can be typed at its top. ``sqlstring`` has Grafana write them as strings of SQL."""

_FROM, _TO = ("toDateTime(intDiv(${__from}, 1000), 'UTC')", "toDateTime(intDiv(${__to}, 1000), 'UTC')")
_parameter = re.compile(r"\{(\w+):\w+(?:\([^)]*\))?\}")
_OUTCOMES = """SELECT
    toStartOfInterval(minute, toIntervalSecond(greatest(60, intDiv(${__interval_ms}, 1000)))) AS time,
    toString(event_type) AS type,
    sum(outcomes) * 60 / greatest(60, intDiv(${__interval_ms}, 1000)) AS mails
FROM ${database}.outcomes_per_minute
WHERE minute BETWEEN {since} AND {until}
    AND (${tenant:sqlstring} = '' OR tenant_id = ${tenant:sqlstring})
    AND (${site:sqlstring} = '' OR site = ${site:sqlstring})
    AND event_type IN ('delivered', 'bounced', 'deferred', 'expired', 'suppressed', 'complained')
GROUP BY time, type
ORDER BY time, type"""
_LATENCY = """SELECT
    toStartOfInterval(minute, toIntervalSecond(greatest(60, intDiv(${__interval_ms}, 1000)))) AS time,
    arrayElement(quantilesTDigestMerge(0.5, 0.9, 0.99)(latency_ms) AS told, 1) AS half,
    arrayElement(told, 2) AS nine_in_ten,
    arrayElement(told, 3) AS all_but_one_in_a_hundred
FROM ${database}.outcomes_per_minute
WHERE minute BETWEEN {since} AND {until}
    AND (${tenant:sqlstring} = '' OR tenant_id = ${tenant:sqlstring})
    AND (${site:sqlstring} = '' OR site = ${site:sqlstring})
    AND event_type = 'delivered'
GROUP BY time
ORDER BY time"""
OVER_TIME = (
    ("What became of mail, per minute", "short", _OUTCOMES),
    ("Accepted to delivered, retries among it", "ms", _LATENCY),
)
TABLES = ("deliverability", "bounce_categories", "deferral_replies", "backlogs", "latency", "tenants", "campaigns",
          "suppressions", "unknown_replies")  # fmt: skip


def table_sql(name: str) -> str:
    """A ready-made query with Grafana's variables for its parameters, and their defaults where it has none."""
    query = find_query(name)
    given = {"since": _FROM, "until": _TO, **{variable: f"${{{variable}:sqlstring}}" for variable in VARIABLES}}
    for one in query.parameters:
        default = one.default or ""
        given.setdefault(one.name, f"'{default.strip(chr(39))}'" if one.type == "String" else default)
    return _parameter.sub(lambda match: given[match[1]], query.bound("${database}"))


def _within(sql: str) -> str:
    return sql.replace("{since}", _FROM).replace("{until}", _TO)


def panels() -> list[dict[str, Any]]:
    """Curves first, two in a row, then the tables, each over the whole width."""
    made = [
        _panel(number, "timeseries", title, _within(sql), {"h": 9, "w": 12, "x": 12 * number, "y": 0}, unit)
        for number, (title, unit, sql) in enumerate(OVER_TIME)
    ]
    for number, name in enumerate(TABLES, len(made)):
        place = {"h": 9, "w": 24, "x": 0, "y": 9 * number}
        made.append(_panel(number, "table", find_query(name).title, table_sql(name), place))
    return made


def variables() -> list[dict[str, Any]]:
    """The database's name, and what may be chosen."""
    texts = [("database", "Database", "sluice"), *((name, label, "") for name, label in VARIABLES.items())]
    return [
        {"name": name, "label": label, "type": "textbox", "query": value, "current": {"text": value, "value": value}}
        for name, label, value in texts
    ]


def _panel(
    number: int, kind: str, title: str, sql: str, place: dict[str, int], unit: str | None = None
) -> dict[str, Any]:
    target = {
        "refId": "A",
        "datasource": SOURCE,
        "editorType": "sql",
        "queryType": kind,
        "format": FORMATS[kind],
        "rawSql": sql,
    }
    return {
        "id": number + 1,
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [target],
        "fieldConfig": {"defaults": {"unit": unit} if unit else {}, "overrides": []},
        "options": {},
    }
