"""Topics, tables, secrets and the test: who makes them, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.helm.chart import (
    CHART,
    SERVICES,
    SMALL,
    Manifest,
    component,
    environment,
    every_values,
    one,
    pods,
    render,
    rendered,
    workload,
)  # fmt: skip

from sluice.adapters.kafka.topics import _config
from sluice.domain.routing import RouteTable, StaticRoute
from sluice.domain.topics import Layout, topics

STRIMZI = CHART / "ci/strimzi-values.yaml"
SECRETS = CHART / "ci/external-secrets-values.yaml"
LARGE = CHART / "ci/large-values.yaml"


def hooks(manifests: Any) -> list[tuple[int, str, str]]:
    """Weight, kind and name of what runs before an install, in its order."""
    found = []
    for manifest in manifests:
        annotations = manifest["metadata"].get("annotations", {})
        if "pre-install" in annotations.get("helm.sh/hook", ""):
            weight = int(annotations.get("helm.sh/hook-weight", "0"))
            found.append((weight, manifest["kind"], manifest["metadata"]["name"]))
    return sorted(found)


def test_settings_come_before_topics_and_topics_before_tables_and_all_before_anything_else() -> None:
    assert [(kind, name) for _, kind, name in hooks(rendered(SMALL))] == [
        ("Job", "sluice-check"),
        ("Job", "sluice-topics"),
        ("Job", "sluice-schema"),
    ]


def test_the_check_has_all_that_the_services_will_have() -> None:
    """Settings of each, and the rules that are to come."""
    manifests = rendered(LARGE)
    checked = environment(one(manifests, "Job", "sluice-check")["spec"]["template"])
    process = {"SLUICE_KAFKA_INSTANCE_ID", "SLUICE_KAFKA_SESSION_TIMEOUT_S", "SLUICE_HEALTH_HOST", "SLUICE_HEALTH_PORT"}
    for service in SERVICES:
        own = environment(workload(manifests, service)["spec"]["template"])
        given = {name: value for name, value in own.items() if name.startswith("SLUICE_") and name not in process}
        assert given.items() <= checked.items(), service
    to_come = one(manifests, "ConfigMap", "sluice-check")
    assert to_come["data"] == one(manifests, "ConfigMap", "sluice-rules")["data"]
    assert int(to_come["metadata"]["annotations"]["helm.sh/hook-weight"]) < -6


def test_hook_jobs_run_what_can_be_repeated_within_a_deadline() -> None:
    manifests = rendered(SMALL)
    commands = {"check": ["config", "--check"], "topics": ["topics", "apply"], "schema": ["schema", "apply"]}
    for name, command in commands.items():
        job = one(manifests, "Job", f"sluice-{name}")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == command
        assert job["spec"]["activeDeadlineSeconds"] == 300
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


@every_values
def test_every_hook_can_run_again(values: Any) -> None:
    """The one before is out of its way, and its log could be read until then."""
    for manifest in rendered(values):
        annotations = manifest["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation", manifest["metadata"]["name"]


def test_a_rollback_does_not_run_them() -> None:
    """Kafka never takes partitions away, so the old number would be refused."""
    assert not [
        m for m in rendered(LARGE) if "rollback" in m["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    ]


@every_values
def test_hooks_use_nothing_that_comes_after_them(values: Any) -> None:
    """On a first install there are no ConfigMaps, accounts or other Secrets of the chart's yet."""
    manifests = rendered(values)
    early = {name for _, kind, name in hooks(manifests) if kind == "ConfigMap"}
    own = {(m["kind"], m["metadata"]["name"]) for m in manifests if m["kind"] in ("ConfigMap", "ServiceAccount")}
    own -= {("ConfigMap", name) for name in early}
    for name, pod in pods([m for m in manifests if m["kind"] == "Job"]).items():
        assert "serviceAccountName" not in pod["spec"], name
        text = json.dumps(pod["spec"])
        assert not [made for kind, made in own if kind == "ConfigMap" and f'"{made}"' in text], name


@pytest.mark.parametrize("mode", ["none", "strimzi"])
def test_no_job_makes_topics_when_others_do(mode: str) -> None:
    manifests = render(SMALL, topics={"mode": mode, "strimzi": {"cluster": "mail"}})
    assert [name for _, _, name in hooks(manifests)] == ["sluice-check", "sluice-schema"]


def test_no_job_makes_tables_when_others_do() -> None:
    assert [name for _, _, name in hooks(render(SMALL, schema__enabled=False))] == ["sluice-check", "sluice-topics"]


def test_strimzi_is_given_the_topics_that_the_command_would_make() -> None:
    """All of them, with the same partitions and configuration."""
    made = {m["spec"]["topicName"]: m for m in rendered(STRIMZI) if m["kind"] == "KafkaTopic"}
    wanted = {spec.name: spec for spec in topics(Layout(12, 12, 4, idempotency_hours=48))}
    assert made.keys() == wanted.keys()
    for name, manifest in made.items():
        assert manifest["spec"]["partitions"] == wanted[name].partitions, name
        assert manifest["spec"]["replicas"] == 3, name
        assert manifest["spec"]["config"] == _config(wanted[name], 3), name


def test_one_broker_has_no_copy_to_wait_for() -> None:
    manifests = render(STRIMZI, kafka__replication=1)
    assert {m["spec"]["config"]["min.insync.replicas"] for m in manifests if m["kind"] == "KafkaTopic"} == {"1"}


def test_a_topic_is_never_a_hook_and_outlives_the_release() -> None:
    """As a hook it would be deleted, with the mail in it, before it is made again."""
    for manifest in (m for m in rendered(STRIMZI) if m["kind"] == "KafkaTopic"):
        annotations = manifest["metadata"]["annotations"]
        assert annotations["helm.sh/resource-policy"] == "keep"
        assert not [name for name in annotations if name.startswith("helm.sh/hook")]
        assert manifest["metadata"]["namespace"] == "kafka"


def test_external_secrets_come_before_the_jobs_that_need_them_and_their_secrets_stay() -> None:
    manifests = rendered(SECRETS)
    kinds = [kind for _, kind, _ in hooks(manifests)]
    assert kinds == ["ExternalSecret"] * 4 + ["Job"] * 3
    for manifest in (m for m in manifests if m["kind"] == "ExternalSecret"):
        assert manifest["spec"]["target"] == {
            "name": manifest["metadata"]["name"],
            "creationPolicy": "Orphan",
            "deletionPolicy": "Retain",
        }


def named_secrets(node: Any) -> set[tuple[str, str]]:
    """Secrets and their keys that a pod refers to."""
    found: set[tuple[str, str]] = set()
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            found.add((node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]))
        if "secret" in node and "items" in node["secret"]:
            found |= {(node["secret"]["name"], item["key"]) for item in node["secret"]["items"]}
        for inner in node.values():
            found |= named_secrets(inner)
    elif isinstance(node, list):
        for inner in node:
            found |= named_secrets(inner)
    return found


def test_external_secrets_have_every_key_that_pods_ask_for() -> None:
    manifests = rendered(SECRETS)
    made = {
        (m["metadata"]["name"], entry["secretKey"])
        for m in manifests
        if m["kind"] == "ExternalSecret"
        for entry in m["spec"]["data"]
    }
    asked = set().union(*(named_secrets(pod) for pod in pods(manifests).values()))
    assert asked == made


def routes(manifest: Manifest) -> RouteTable:
    """Of a workload's pods."""
    return RouteTable.parse(environment(manifest["spec"]["template"])["SLUICE_ROUTES"])


def test_the_tests_mail_has_a_way_to_the_sink_and_all_other_mail_has_its_own() -> None:
    manifests = rendered(SMALL)
    service = one(manifests, "Service", "sluice-test")
    for name in ("compose", "deliver"):
        found = routes(workload(manifests, name)).routes
        assert found["helm-test.invalid"] == StaticRoute(
            host="sluice-test.mail.svc.cluster.local", port=service["spec"]["ports"][0]["port"], tls="none"
        )
        assert found["*"] == StaticRoute(host="mailpit.mail.svc.cluster.local", port=1025, tls="none")
    pod = one(manifests, "Pod", "sluice-test")
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["args"] == ["sluice-test.mail.svc.cluster.local", "2525", "120"]


def test_without_the_test_nothing_of_it_is_left() -> None:
    manifests = render(SMALL, test__enabled=False)
    assert not [m for m in manifests if component(m) == "test"]
    assert "helm-test.invalid" not in json.dumps(manifests)
