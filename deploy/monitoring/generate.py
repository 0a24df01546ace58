"""What is made from the code's list of metrics: ``generate.py [--check]``.

- ``docs/telemetry.md``: its tables of metrics and of alerts;
- ``rules.yaml``: the chart's alerts, for a Prometheus that no chart configures;
- ``grafana/sluice.json``: the dashboard, from the list of panels below.

With ``--check`` nothing is written, and the exit code is 1 when something would be.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from sluice.ports.metrics import ALL, METRICS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ALERTS = ROOT / "deploy/helm/sluice/files/alerts.yaml"
RULES = HERE / "rules.yaml"
DASHBOARD = HERE / "grafana/sluice.json"
DOCUMENT = ROOT / "docs/telemetry.md"
WIDTH, HEIGHT = 8, 8

PANELS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    ("Is mail late?", (
        ("Accepted to delivered: half, and all but one in a hundred", "s", "{{priority}}",
         ("histogram_quantile(0.5, sum by (priority, le) (rate(sluice_delivery_seconds_bucket[$__rate_interval])))\n"
         "histogram_quantile(0.99, sum by (priority, le) (rate(sluice_delivery_seconds_bucket[$__rate_interval])))")),
        ("Oldest unfinished record", "s", "{{topic}}", "max by (topic) (sluice_lag_age_seconds)"),
        ("Records behind", "short", "{{topic}}", 'sum by (topic) (sluice_lag_records{topic!~"mail[.]wheel.*"})'),
    )),
    ("Why?", (
        ("Where delivered mails spent their time, per mail", "s", "{{priority}} {{reason}}",
         ("sum by (priority, reason) (rate(sluice_delivery_waits_seconds_total[$__rate_interval]))"
         " / ignoring (reason) group_left"
         " sum by (priority) (rate(sluice_delivery_seconds_count[$__rate_interval]))")),
        ("Put off, by reason", "ops", "{{reason}}", "sum by (reason) (rate(sluice_put_off_total[$__rate_interval]))"),
        ("Wait in memory", "short", "{{service}} {{reason}}", "sum by (service, reason) (sluice_waiting)"),
        ("Rest in the wheel, by tier", "short", "{{topic}}",
         'sum by (topic) (sluice_lag_records{topic=~"mail[.]wheel.*"})'),
        ("Held in memory, by tier", "short", "{{tier}}", "sum by (tier) (sluice_wheel_resting)"),
        ("Come back within", "short", "{{within}}", "sum by (within) (sluice_wheel_due)"),
        ("Wheel's lateness, all but one in a hundred", "s", "late",
         "histogram_quantile(0.99, sum by (le) (rate(sluice_wheel_lateness_seconds_bucket[$__rate_interval])))"),
    )),
    ("What becomes of mail", (
        ("Outcomes", "ops", "{{type}}", "sum by (type) (rate(sluice_outcomes_total[$__rate_interval]))"),
        ("Failures, by category", "ops", "{{type}} {{category}}",
         ("sum by (type, category) (rate(sluice_outcomes_total{"
         'type=~"deferred|bounced|rejected|expired|dead|in_doubt|held"}[$__rate_interval]))')),
        ("Bounced of all that ended, by site", "percentunit", "{{site}}",
         ('sum by (site) (rate(sluice_outcomes_total{type="bounced"}[$__rate_interval]))'
         ' / sum by (site) (rate(sluice_outcomes_total{type=~"bounced|delivered"}[$__rate_interval]))')),
    )),
    ("Sites", (
        ("Queued", "short", "{{site}}", "sum by (site) (sluice_lane_queued)"),
        ("Connections, and most of them", "short", "{{site}}",
         "sum by (site) (sluice_lane_connections)\nsum by (site) (sluice_lane_connections_max)"),
        ("Lanes paused", "short", "{{site}}", "sum by (site) (sluice_lanes_paused) > 0"),
        ("Rate in force", "ops", "{{site}}", "sum by (site) (sluice_lane_rate_per_second)"),
        ("Lanes", "short", "{{site}}", "sum by (site) (sluice_lanes)"),
        ("Delivered", "ops", "{{site}}",
         'sum by (site) (rate(sluice_outcomes_total{type="delivered"}[$__rate_interval]))'),
    )),
    ("The machinery", (
        ("Taken", "ops", "{{topic}}", "sum by (topic) (rate(sluice_records_taken_total[$__rate_interval]))"),
        ("Published, dead letters among them", "ops", "{{topic}}",
         "sum by (topic) (rate(sluice_records_published_total[$__rate_interval]))"),
        ("Refused by Kafka", "ops", "{{topic}}",
         "sum by (topic) (rate(sluice_publish_failures_total[$__rate_interval]))"),
        ("In hand", "short", "{{service}} {{topic}}", "sum by (service, topic) (sluice_records_unfinished)"),
        ("In hand", "bytes", "{{service}} {{topic}}",
         "sum by (service, topic) (sluice_records_unfinished_size_bytes)"),
        ("Since something was finished", "s", "{{service}} {{instance}}",
         "max by (service, instance) (sluice_commit_age_seconds)"),
        ("Kafka's acknowledgement, all but one in a hundred", "s", "{{service}}",
         "histogram_quantile(0.99, sum by (service, le) (rate(sluice_publish_ack_seconds_bucket[$__rate_interval])))"),
        ("Not acknowledged yet", "short", "{{service}}", "sum by (service) (sluice_publish_queue)"),
        ("Partitions", "short", "{{service}} {{instance}}", "sum by (service, instance) (sluice_partitions)"),
        ("SMTP connections, and most of them", "short", "{{instance}}",
         "sluice_connections\nsluice_connections_max"),
        ("Event loop's delay, all but one in a hundred", "s", "{{service}}",
         ("histogram_quantile(0.99, sum by (service, le)"
         " (rate(sluice_event_loop_delay_seconds_bucket[$__rate_interval])))")),
        ("Reference data", "s", "{{service}} {{instance}}",
         "sluice_reference_age_seconds\nsluice_reference_lag"),
        ("Up and ready", "short", "{{service}} {{instance}}", "sluice_live\nsluice_ready"),
        ("CPU", "percentunit", "{{instance}}",
         "rate(process_cpu_seconds_total[$__rate_interval])"),
        ("Memory", "bytes", "{{instance}}", "process_resident_memory_bytes"),
    )),
    ("ClickHouse", (
        ("Stored", "ops", "outcomes", "sum(rate(sluice_recorded_total[$__rate_interval]))"),
        ("Insert: half, and all but one in a hundred", "s", "insert",
         ("histogram_quantile(0.5, sum by (le) (rate(sluice_record_store_seconds_bucket[$__rate_interval])))\n"
         "histogram_quantile(0.99, sum by (le) (rate(sluice_record_store_seconds_bucket[$__rate_interval])))")),
        ("Outcome to row, all but one in a hundred", "s", "delay",
         "histogram_quantile(0.99, sum by (le) (rate(sluice_record_delay_seconds_bucket[$__rate_interval])))"),
        ("Rows in a batch, on average", "short", "rows",
         ("sum(rate(sluice_record_batch_rows_sum[$__rate_interval]))"
         " / sum(rate(sluice_record_batch_rows_count[$__rate_interval]))")),
        ("Batches not taken", "ops", "failures", "sum(rate(sluice_record_failures_total[$__rate_interval]))"),
    )),
)  # fmt: skip
"""By question: title, unit, legend, and the queries, one a line."""


def rules() -> str:
    """The chart's alerts without its namespace."""
    text = ALERTS.read_text(encoding="utf-8")
    plain = re.sub(r'namespace="NAMESPACE"(, ?)?', "", text).replace("{}", "")
    groups = yaml.safe_load(plain)
    head = "# Made by deploy/monitoring/generate.py from the chart's alerts; list it under rule_files.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=120, allow_unicode=True)


def dashboard() -> str:
    """Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for question, found in PANELS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": question,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            }
        )
        y += 1
        for number, (title, unit, legend, queries) in enumerate(found):
            place = {"h": HEIGHT, "w": WIDTH, "x": number % 3 * WIDTH, "y": y + number // 3 * HEIGHT}
            panels.append(_panel(len(panels) + 1, title, unit, legend, queries, place))
        y += -(-len(found) // 3) * HEIGHT
    made = {
        "uid": "sluice",
        "title": "Sluice",
        "tags": ["sluice", "mail"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _panel(number: int, title: str, unit: str, legend: str, queries: str, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": source}
        for index, query in enumerate(queries.splitlines())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def metrics_table() -> str:
    """Every metric, a row each."""
    lines = ["| metric | kind | unit | labels | told by | meaning | answers |", "|---|---|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        told_by = "all" if metric.services == ALL else ", ".join(metric.services)
        unit = {"s": "seconds", "By": "bytes"}.get(metric.unit, metric.unit.replace("{", "").replace("}", "s"))
        cells = (f"`{metric.exported}`", metric.kind, unit, labels, told_by, metric.meaning, metric.answers)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def alerts_table() -> str:
    """Every alert, a row each."""
    lines = ["| alert | severity | when | what to do |", "|---|---|---|---|"]
    for group in yaml.safe_load(rules())["groups"]:
        for rule in group["rules"]:
            when = " ".join(rule["expr"].split()).replace("[.]", ".").replace("|", "\\|")
            lasting = f" for {rule['for']}" if "for" in rule else ""
            advice = re.sub(r"\{\{.*?\}\}", "…", rule["annotations"]["description"]).replace("|", "\\|")
            lines.append(f"| {rule['alert']} | {rule['labels']['severity']} | `{when}`{lasting} | {advice} |")
    return "\n".join(lines)


def document() -> str:
    """``docs/telemetry.md`` with its tables as they should be."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, table in (("metrics", metrics_table()), ("alerts", alerts_table())):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = before + begin + table + "\n" + end + rest.split(end)[1]
    return text


def main() -> int:
    """Write, or check."""
    stale = []
    for path, wanted in ((RULES, rules()), (DASHBOARD, dashboard()), (DOCUMENT, document())):
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(path)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(wanted, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'out of date' if '--check' in sys.argv else 'written'}")  # noqa: T201
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
