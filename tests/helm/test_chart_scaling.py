"""KEDA, HPA, and what limits evictions."""

from __future__ import annotations

from typing import Any

import pytest
from tests.helm.chart import CHART, SERVICES, SMALL, component, one, render, rendered, workload

from sluice.commands.groups import GROUPS, group_name

KEDA = CHART / "ci/keda-values.yaml"
LARGE = CHART / "ci/large-values.yaml"


@pytest.mark.parametrize("mode", ["keda", "hpa"])
def test_replicas_are_left_out_when_something_else_decides(mode: str) -> None:
    """Or each upgrade would set the number back."""
    scaling = {"mode": mode, "minReplicas": 1, "maxReplicas": 2}
    manifests = render(SMALL, services__deliver__autoscaling=scaling)
    assert "replicas" not in workload(manifests, "deliver")["spec"]
    assert workload(manifests, "compose")["spec"]["replicas"] == 1


def test_nothing_is_scaled_unless_asked() -> None:
    assert not [m for m in rendered(SMALL) if m["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]


def test_keda_watches_each_topic_of_the_services_own_group() -> None:
    found = {component(m): m["spec"] for m in rendered(KEDA) if m["kind"] == "ScaledObject"}
    assert found.keys() == {"compose", "deliver", "record"}
    for service, spec in found.items():
        seen = [(t["type"], t["metadata"]["consumerGroup"], t["metadata"]["topic"]) for t in spec["triggers"]]
        assert seen == [("kafka", group_name(service), topic) for topic in GROUPS[service]]


def test_keda_never_wants_more_pods_than_there_are_partitions_and_targets_what_there_is() -> None:
    manifests = rendered(KEDA)
    for scaled in (m for m in manifests if m["kind"] == "ScaledObject"):
        target = scaled["spec"]["scaleTargetRef"]
        one(manifests, target["kind"], target["name"])
        assert scaled["spec"]["maxReplicaCount"] <= 12


def test_keda_comes_to_kafka_as_services_do() -> None:
    manifests = rendered(KEDA)
    (authentication,) = (m for m in manifests if m["kind"] == "TriggerAuthentication")
    given = {ref["parameter"]: (ref["name"], ref["key"]) for ref in authentication["spec"]["secretTargetRef"]}
    assert given == {
        "username": ("sluice-kafka", "username"),
        "password": ("sluice-kafka", "password"),
        "ca": ("kafka-ca", "ca.crt"),
    }
    for scaled in (m for m in manifests if m["kind"] == "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
            assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha256", "enable")


def test_keda_has_the_certificate_and_the_provider_too() -> None:
    """It takes them by reference only."""
    tls = {"existingSecret": "client", "passwordKey": "password"}
    oauth = {"tokenUrl": "https://id.example/token", "scope": "kafka"}
    manifests = render(KEDA, kafka__tls=tls, kafka__sasl__mechanism="OAUTHBEARER", kafka__sasl__oauth=oauth)
    (authentication,) = (m for m in manifests if m["kind"] == "TriggerAuthentication")
    given = {ref["parameter"]: (ref["name"], ref["key"]) for ref in authentication["spec"]["secretTargetRef"]}
    assert given == {
        "username": ("sluice-kafka", "client-id"),
        "password": ("sluice-kafka", "client-secret"),
        "cert": ("client", "tls.crt"),
        "key": ("client", "tls.key"),
        "keyPassword": ("client", "password"),
        "ca": ("kafka-ca", "ca.crt"),
    }
    told = one(manifests, "ConfigMap", "sluice-kafka")["data"]
    assert told == {"oauthTokenEndpointUri": "https://id.example/token", "scopes": "kafka"}
    named = authentication["spec"]["configMapTargetRef"]
    assert named == [{"parameter": name, "name": "sluice-kafka", "key": name} for name in sorted(told)]
    for scaled in (m for m in manifests if m["kind"] == "ScaledObject"):
        assert {trigger["metadata"]["sasl"] for trigger in scaled["spec"]["triggers"]} == {"oauthbearer"}


def test_keda_without_credentials_refers_to_none() -> None:
    manifests = render(SMALL, services__deliver__autoscaling={"mode": "keda", "minReplicas": 1, "maxReplicas": 2})
    assert not [m for m in manifests if m["kind"] == "TriggerAuthentication"]
    (scaled,) = (m for m in manifests if m["kind"] == "ScaledObject")
    assert all("authenticationRef" not in trigger for trigger in scaled["spec"]["triggers"])


def behaviour(manifest: dict[str, Any]) -> dict[str, Any]:
    """How fast it may scale."""
    spec = manifest["spec"]
    found = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return dict(found)


def test_pods_go_one_at_a_time_and_long_after_they_were_needed() -> None:
    """Each change of their number moves partitions."""
    scaled = [m for v in (KEDA, LARGE) for m in rendered(v) if m["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    assert len(scaled) == 4
    for manifest in scaled:
        down = behaviour(manifest)["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 900
        assert [(p["type"], p["value"]) for p in down["policies"]] == [("Pods", 1)]
        assert down["policies"][0]["periodSeconds"] >= 300


def test_evictions_are_limited_and_never_stopped() -> None:
    """A budget that allows none would hold up a node's drain for good."""
    manifests = rendered(LARGE)
    for service in SERVICES:
        budget = one(manifests, "PodDisruptionBudget", f"sluice-{service}")["spec"]
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_are_spread_over_zones_and_nodes() -> None:
    for service in SERVICES:
        spec = workload(rendered(LARGE), service)["spec"]["template"]["spec"]
        keys = [constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_an_update_replaces_one_pod_at_a_time() -> None:
    manifests = rendered(LARGE)
    rolling = workload(manifests, "compose")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    assert workload(manifests, "deliver")["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    assert all(workload(manifests, service)["spec"]["minReadySeconds"] >= 10 for service in SERVICES)


def test_a_service_can_be_left_out_and_another_added() -> None:
    """A later one is an entry, not a template."""
    extra = {
        "partitions": "lanePartitions", "group": "sluice-later", "topics": ["mail.outcome"], "needs": ["clickhouse"],
        "resources": {"limits": {"memory": "256Mi"}},
    }  # fmt: skip
    manifests = render(SMALL, services__wheel__enabled=False, services__later=extra)
    kinds = {component(m) for m in manifests if m["kind"] in ("Deployment", "StatefulSet")}
    assert kinds == {"compose", "deliver", "record", "later"}
    assert not [m["metadata"]["name"] for m in manifests if m["metadata"]["name"].endswith("-wheel")]
