"""What is shipped for Prometheus and Grafana asks for what there is, and the documents say the same as the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.ports.metrics import METRICS, Metric

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
DASHBOARDS = sorted((MONITORING / "grafana").glob("*.json"))
SOURCES = ("dashboards", "rules", "chart")
EVERYWHERE = frozenset({"service", "instance", "pod", "namespace", "job", "le"})
"""Labels that each figure has, or gets where it is scraped."""
_selector = re.compile(r"\b((?:sluice|process)_[a-z_]+)(\{[^}]*\})?")
_by = re.compile(r"\bby \(([a-z_, ]+)\)")
_made = re.compile(r'label_replace\(.*?, "(\w+)", "\$1"')
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
    if source == "dashboards":
        yield from (target["expr"] for panel in panels() for target in panel.get("targets", ()))
        return
    path = MONITORING / "rules.yaml" if source == "rules" else ROOT / "deploy/helm/sluice/files/alerts.yaml"
    yield from (rule["expr"] for rule in alerts(path))


def panels() -> list[dict[str, Any]]:
    """Of all dashboards that ask Prometheus; that over ClickHouse is tried where there is one."""
    return [
        panel
        for path in DASHBOARDS
        if path.stem != "deliverability"
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
    ]


def alerts(path: Path = MONITORING / "rules.yaml") -> list[dict[str, Any]]:
    """Every alert of a file of rules."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    groups = found["groups"] if isinstance(found, dict) else found
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("source", SOURCES)
def test_queries_ask_for_metrics_and_labels_that_there_are(source: str) -> None:
    series = named()
    asked = 0
    for expression in expressions(source):
        labels: set[str] = set(_made.findall(expression))
        for name, selector in _selector.findall(expression):
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


def test_dashboards_show_every_metric() -> None:
    """What nobody can see need not be counted."""
    shown = {name for expression in expressions("dashboards") for name, _ in _selector.findall(expression)}
    for metric in METRICS:
        assert any(name.startswith(metric.exported) for name in shown), metric.exported


def test_legends_name_labels_that_the_queries_leave() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            grouped = _by.findall(target["expr"])
            left = {label.strip() for given in grouped for label in given.split(",")} if grouped else EVERYWHERE
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, panel["title"]


def test_what_shows_on_call_is_there_for_an_alert_and_every_critical_one_has_its_panel() -> None:
    on_call = json.loads((MONITORING / "grafana/on-call.json").read_text(encoding="utf-8"))
    described = [panel["description"].partition(": ") for panel in on_call["panels"] if "targets" in panel]
    runbooks = {alert["alert"]: alert["annotations"]["runbook"] for alert in alerts()}
    for name, _, runbook in described:
        assert runbooks[name] == runbook
    shown = {runbook for _, _, runbook in described}
    critical = {alert["annotations"]["runbook"] for alert in alerts() if alert["labels"]["severity"] == "critical"}
    assert critical <= shown
    assert len(described) < len(runbooks)


def test_every_alert_has_its_runbook_and_every_runbook_an_alert() -> None:
    named = {alert["annotations"]["runbook"] for alert in alerts()}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs/runbooks").glob("*.md")}
    assert named == there - {"docs/runbooks/README.md"}


@pytest.mark.parametrize("path", sorted((ROOT / "docs/runbooks").glob("[a-z]*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_what_to_look_at_what_to_do_and_when_it_is_over(path: Path) -> None:
    """Its commands and links are held against the code where those of all documents are."""
    text = path.read_text(encoding="utf-8")
    of = {alert["alert"] for alert in alerts() if alert["annotations"]["runbook"].endswith(f"/{path.name}")}
    assert set(re.findall(r"`(Sluice\w+)`", text.partition("\n## ")[0])) == of
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "Look", "Do", "Over when"]
    assert re.search(r"\bsluice (?!-)[a-z]|curl ", text.partition("## Look")[2]), "names no command"
    asked = {name for name, _ in _selector.findall(text)}
    assert asked <= named().keys() | {metric.exported for metric in METRICS}
    assert set(re.findall(r"\bSluice[A-Z]\w+", text)) <= {alert["alert"] for alert in alerts()}


def test_every_alert_is_tried_firing_and_silent() -> None:
    """By promtool, in the cases of ``rules_test.yaml``."""
    cases = yaml.safe_load((MONITORING / "rules_test.yaml").read_text(encoding="utf-8"))["tests"]
    tried = [one for case in cases for one in case["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {one["alertname"] for one in tried if one["exp_alerts"]} == names
    assert {one["alertname"] for one in tried if not one["exp_alerts"]} == names


def test_tables_rules_and_dashboards_are_as_the_code_makes_them() -> None:
    checked = subprocess.run(
        [sys.executable, MONITORING / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}\nrun: python deploy/monitoring/generate.py"


PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=ROOT / ".tools/debian/prometheus/usr/bin")
"""An installed one, or that of ``make monitoring-check``."""


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool: make monitoring-check")
def test_prometheus_takes_the_rules_and_the_queries_and_wakes_somebody_when_it_should() -> None:
    checked = subprocess.run(
        [sys.executable, MONITORING / "check.py", str(PROMTOOL)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}"


def test_a_machine_without_promtool_and_apt_is_told_so(tmp_path: Path) -> None:
    """``make monitoring-check`` skips then; anything else than status 3 fails it."""
    script = tmp_path / ".ci/debian.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / ".ci/debian.sh", script)
    (tmp_path / "dirname").symlink_to(str(shutil.which("dirname")))
    ended = subprocess.run(
        [str(shutil.which("sh")), script, "prometheus", "promtool"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no promtool" in ended.stderr


def test_continuous_integration_runs_promtool() -> None:
    assert "make monitoring-check" in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
