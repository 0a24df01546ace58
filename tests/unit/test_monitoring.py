"""What is shipped for Prometheus and Grafana asks for what there is, and the documents say the same as the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sluice.ports.metrics import METRICS, Metric

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
SOURCES = ("dashboard", "rules", "chart")
FOREIGN = frozenset({"process_cpu_seconds_total", "process_resident_memory_bytes"})
EVERYWHERE = frozenset({"service", "instance", "pod", "namespace", "job", "le"})
"""Labels that each figure has, or gets where it is scraped."""
_selector = re.compile(r"\b((?:sluice|process)_[a-z_]+)(\{[^}]*\})?")
_by = re.compile(r"\bby \(([a-z_, ]+)\)")
_bound = re.compile(r"histogram_quantile\([^>]*>\s*([0-9.]+)")


def named() -> dict[str, Metric]:
    """Every series that Prometheus gets, and its metric."""
    found: dict[str, Metric] = {}
    for metric in METRICS:
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        found |= {f"{metric.exported}{part}": metric for part in parts}
    return found


def expressions(source: str) -> Iterator[str]:
    """The queries of a file."""
    if source == "dashboard":
        made = json.loads((MONITORING / "grafana/sluice.json").read_text(encoding="utf-8"))
        for panel in made["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))
        return
    path = MONITORING / "rules.yaml" if source == "rules" else ROOT / "deploy/helm/sluice/files/alerts.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in found["groups"] if isinstance(found, dict) else found:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("source", SOURCES)
def test_queries_ask_for_metrics_and_labels_that_there_are(source: str) -> None:
    series = named()
    asked = 0
    for expression in expressions(source):
        labels: set[str] = set()
        for name, selector in _selector.findall(expression):
            if name in FOREIGN:
                continue
            assert name in series, f"{source}: {name} in {expression}"
            asked += 1
            labels |= set(series[name].labels)
            for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector):
                assert label in {*series[name].labels, *EVERYWHERE}, f"{source}: {label} in {expression}"
        for given in _by.findall(expression):
            for label in given.split(","):
                assert label.strip() in labels | EVERYWHERE, f"{source}: {label} in {expression}"
    assert asked >= 10


@pytest.mark.parametrize("source", SOURCES)
def test_an_alert_on_a_quantile_can_be_reached(source: str) -> None:
    """A quantile is never told above the histogram's last bound."""
    series = named()
    for expression in expressions(source):
        for threshold in _bound.findall(expression):
            (name,) = {name for name, _ in _selector.findall(expression.split("histogram_quantile")[1])}
            assert float(threshold) < series[name].bounds[-1], expression


def test_the_dashboard_shows_every_metric() -> None:
    """What nobody can see need not be counted."""
    shown = {name for expression in expressions("dashboard") for name, _ in _selector.findall(expression)}
    for metric in METRICS:
        assert any(name.startswith(metric.exported) for name in shown), metric.exported


def test_legends_name_labels_that_the_queries_leave() -> None:
    made = json.loads((MONITORING / "grafana/sluice.json").read_text(encoding="utf-8"))
    for panel in made["panels"]:
        for target in panel.get("targets", ()):
            grouped = _by.findall(target["expr"])
            left = {label.strip() for given in grouped for label in given.split(",")} if grouped else EVERYWHERE
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, panel["title"]


def test_tables_rules_and_dashboard_are_as_the_code_makes_them() -> None:
    checked = subprocess.run(
        [sys.executable, MONITORING / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}\nrun: python deploy/monitoring/generate.py"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_takes_the_rules_and_the_queries_and_wakes_somebody_when_it_should(tmp_path: Path) -> None:
    queries = [expression.replace("$__rate_interval", "5m") for expression in expressions("dashboard")]
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    panels = tmp_path / "panels.yaml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), encoding="utf-8")
    checked = subprocess.run(
        ["promtool", "check", "rules", MONITORING / "rules.yaml", panels], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    tested = subprocess.run(
        ["promtool", "test", "rules", MONITORING / "rules_test.yaml"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, f"{tested.stdout}{tested.stderr}"
