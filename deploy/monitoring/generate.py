"""What is made from the code's list of metrics: ``generate.py [--check]``.

- ``docs/telemetry.md``: its tables of metrics and of alerts;
- ``rules.yaml``: the chart's alerts, for a Prometheus that no chart configures;
- ``grafana/*.json``: the dashboards of ``dashboards.py``, and of ``deliverability.py`` over ClickHouse.

With ``--check`` nothing is written, and the exit code is 1 when something would be.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deliverability
import yaml
from dashboards import DASHBOARDS, Dashboard, Panel

from sluice.ports.metrics import ALL, METRICS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ALERTS = ROOT / "deploy/helm/sluice/files/alerts.yaml"
RULES = HERE / "rules.yaml"
GRAFANA = HERE / "grafana"
DOCUMENT = ROOT / "docs/telemetry.md"
WIDTH, HEIGHT = 8, 8


def rules() -> str:
    """The chart's alerts without its namespace, and by instance where that has pods."""
    text = ALERTS.read_text(encoding="utf-8").replace("Pod {{ $labels.pod }}", "Process {{ $labels.instance }}")
    plain = re.sub(r'namespace="NAMESPACE"(, ?)?', "", text).replace("{}", "").replace("by (pod", "by (instance")
    groups = yaml.safe_load(plain)
    head = "# Made by deploy/monitoring/generate.py from the chart's alerts; list it under rule_files.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=120, allow_unicode=True)


def dashboard(made: Dashboard) -> str:
    """Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for question, found in made.sections:
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        row = {"id": len(panels) + 1, "type": "row", "title": question, "collapsed": False, "panels": []}
        panels.append({**row, "gridPos": place})
        y += 1
        for number, panel in enumerate(found):
            place = {"h": HEIGHT, "w": WIDTH, "x": number % 3 * WIDTH, "y": y + number // 3 * HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, place))
        y += -(-len(found) // 3) * HEIGHT
    return grafana(made.uid, made.title, "prometheus", panels)


def grafana(
    uid: str, title: str, source: str, panels: list[dict[str, Any]], variables: Sequence[dict[str, Any]] = ()
) -> str:
    """A dashboard around panels; ``source`` is the kind of data source that is chosen at its top."""
    chosen = {"name": "source", "label": "Source", "type": "datasource", "query": source}
    made = {
        "uid": uid,
        "title": title,
        "tags": ["sluice", "mail"],
        "links": [{"type": "dashboards", "tags": ["sluice"], "title": "Sluice", "asDropdown": True, "keepTime": True}],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [chosen, *variables]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": panel.legend, "datasource": source}
        for index, query in enumerate(panel.queries.splitlines())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.line is not None:
        # No colour: whether it is bad above or below, the alert says.
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": "text", "value": panel.line}]}
        defaults["custom"] = {"thresholdsStyle": {"mode": "dashed"}}
    made = {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }
    return {**made, "description": f"{panel.alert}: {runbook(panel.alert)}"} if panel.alert else made


def alerts() -> list[dict[str, Any]]:
    """Every alert, without a namespace."""
    return [rule for group in yaml.safe_load(rules())["groups"] for rule in group["rules"]]


def runbook(name: str) -> str:
    """The runbook of an alert: its path in the repository."""
    (found,) = [rule["annotations"]["runbook"] for rule in alerts() if rule["alert"] == name]
    return str(found)


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
    lines = ["| alert | severity | when | what it says first |", "|---|---|---|---|"]
    for rule in alerts():
        when = " ".join(rule["expr"].split()).replace("[.]", ".").replace("|", "\\|")
        lasting = f" for {rule['for']}" if "for" in rule else ""
        advice = re.sub(r"\{\{.*?\}\}", "…", rule["annotations"]["description"]).replace("|", "\\|")
        name = f"[{rule['alert']}]({rule['annotations']['runbook'].removeprefix('docs/')})"
        lines.append(f"| {name} | {rule['labels']['severity']} | `{when}`{lasting} | {advice} |")
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
    made = {GRAFANA / f"{name}.json": dashboard(one) for name, one in DASHBOARDS.items()}
    made[GRAFANA / "deliverability.json"] = grafana(
        "sluice-deliverability",
        "Sluice: deliverability",
        str(deliverability.SOURCE["type"]),
        deliverability.panels(),
        deliverability.variables(),
    )
    stale = []
    for path, wanted in {RULES: rules(), DOCUMENT: document(), **made}.items():
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
