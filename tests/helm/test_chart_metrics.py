"""Who scrapes, and what wakes whom: only by metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from tests.helm.chart import CHART, SERVICES, SMALL, one, pods, render, rendered, workload

from sluice.ports.metrics import METRICS

LARGE = CHART / "ci/large-values.yaml"
ADDED = {"service", "namespace", "pod", "le"}
"""Labels that every figure has, or Prometheus adds."""


def alerts() -> list[dict[str, Any]]:
    """As they are given to the Prometheus Operator."""
    groups = one(rendered(LARGE), "PrometheusRule", "sluice")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_nothing_of_it_is_made_unless_asked() -> None:
    """Its kinds are not in every cluster."""
    assert not [m for m in rendered(SMALL) if m["apiVersion"].startswith("monitoring.")]


def test_the_pods_of_services_are_scraped_where_they_tell_and_no_others() -> None:
    manifests = rendered(LARGE)
    spec = one(manifests, "PodMonitor", "sluice")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    (expression,) = spec["selector"]["matchExpressions"]
    chosen = {
        name
        for name, pod in pods(manifests).items()
        if spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        and pod["metadata"]["labels"][expression["key"]] in expression["values"]
    }
    assert chosen == {f"{workload(manifests, s)['kind']} sluice-{s}" for s in SERVICES}
    for service in SERVICES:
        (container,) = workload(manifests, service)["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in container["ports"]]


def test_alerts_use_metrics_and_labels_that_there_are() -> None:
    known = {metric.exported: metric for metric in METRICS}
    for alert in alerts():
        found = re.findall(r"\b((?:sluice|process)_\w+)\{([^}]*)\}", alert["expr"])
        assert found, alert["alert"]
        for name, selectors in found:
            metric = known.get(name) or known[re.sub("_(bucket|sum|count)$", "", name)]
            assert name == metric.exported or metric.kind == "histogram"
            labels = set(re.findall(r"(\w+)\s*=~?", selectors))
            assert 'namespace="mail"' in selectors
            assert labels <= {*metric.labels, *ADDED}, alert["alert"]
        for grouped in re.findall(r"by \(([^)]*)\)", alert["expr"]):
            names = {label.strip() for label in grouped.split(",")}
            made = set(re.findall(r'label_replace\(.*?, "(\w+)", "\$1"', alert["expr"]))
            assert names <= {label for name, _ in found for label in labels_of(known, name)} | made, alert["alert"]


def labels_of(known: dict[str, Any], name: str) -> set[str]:
    """All labels that a sample may have."""
    metric = known.get(name) or known[re.sub("_(bucket|sum|count)$", "", name)]
    return {*metric.labels, *ADDED}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names)) > 8
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}


def test_the_release_is_told_apart_from_others_by_its_namespace_only() -> None:
    assert "NAMESPACE" not in yaml.safe_dump(alerts())


def test_labels_by_which_a_prometheus_finds_them_are_on_both() -> None:
    manifests = render(
        SMALL, metrics={"labels": {"team": "mail"}, "podMonitor": {"enabled": True}, "rules": {"enabled": True}}
    )
    for kind in ("PodMonitor", "PrometheusRule"):
        assert one(manifests, kind, "sluice")["metadata"]["labels"]["team"] == "mail"


def test_runbooks_are_linked_where_they_can_be_read() -> None:
    read_at = "https://git.acme.example/sluice/docs/runbooks/"
    manifests = render(SMALL, metrics={"rules": {"enabled": True, "runbooks": read_at}})
    for group in one(manifests, "PrometheusRule", "sluice")["spec"]["groups"]:
        for alert in group["rules"]:
            assert "runbook" not in alert["annotations"]
            assert re.fullmatch(rf"{re.escape(read_at)}[a-z-]+[.]md", alert["annotations"]["runbook_url"])


def test_dashboards_are_all_there_and_carry_the_label_that_grafana_looks_for() -> None:
    made = one(rendered(LARGE), "ConfigMap", "sluice-dashboards")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {"sluice-on-call.json", "sluice-pipeline.json", "sluice-sites.json"} <= made["data"].keys()
    assert len({json.loads(text)["uid"] for text in made["data"].values()}) == len(made["data"])
