"""What the chart refuses to render, and the words it has for it: the operator's fault, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from tests.helm.chart import CHART, refused, render, workload

LARGE = CHART / "ci/large-values.yaml"

WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "more deliver pods than partitions": (
        {"services__deliver__replicas": 3},
        "services.deliver.replicas is 3, but kafka.lanePartitions is 2",
    ),
    "more compose pods than partitions": (
        {"services__compose__replicas": 3},
        "services.compose.replicas is 3, but kafka.sendPartitions is 2",
    ),
    "more wheel pods than partitions of a tier": (
        {"services__wheel__replicas": 2},
        "services.wheel.replicas is 2, but kafka.wheelPartitions is 1",
    ),
    "scaling beyond the partitions": (
        {"services__record__autoscaling": {"mode": "keda", "minReplicas": 1, "maxReplicas": 3}},
        "services.record.autoscaling.maxReplicas is 3, but kafka.lanePartitions is 2",
    ),
    "more at least than at most": (
        {"services__record__autoscaling": {"mode": "hpa", "minReplicas": 2, "maxReplicas": 1}},
        "minReplicas is 2 and maxReplicas 1",
    ),
    "a grace shorter than the drain": (
        {"services__deliver__terminationGracePeriodSeconds": 34},
        "services.deliver.terminationGracePeriodSeconds is 34, but stopping takes up to 35",
    ),
    "a longer drain with the old grace": ({"drainSeconds": 40}, "but stopping takes up to 50"),
    "a grace that preStop eats up": (
        {"services__compose__preStopSeconds": 20},
        "stopping takes up to 55: preStopSeconds 20, drainSeconds 25",
    ),
    "static members in a Deployment": (
        {"services__compose__staticMembership": True},
        "services.compose.staticMembership needs kind: StatefulSet",
    ),
    "the wheel scaled by lag": (
        {"services__wheel__autoscaling": {"mode": "keda", "minReplicas": 1, "maxReplicas": 1}},
        "lag of mail.wheel.* is mail that waits",
    ),
    "no Kafka": ({"kafka__bootstrap": ""}, "kafka.bootstrap is missing"),
    "no ClickHouse": ({"clickhouse__url": ""}, "clickhouse.url is missing"),
    "no key of the hash": ({"hashKey__existingSecret": ""}, "hashKey.existingSecret is missing"),
    "no name for EHLO": ({"mail__ehloName": ""}, "mail.ehloName is missing"),
    "SASL without a user": ({"kafka__securityProtocol": "SASL_SSL"}, "set kafka.sasl.existingSecret"),
    "OAUTHBEARER without a client": (
        {"kafka__securityProtocol": "SASL_SSL", "kafka__sasl__mechanism": "OAUTHBEARER"},
        "with the keys client-id and client-secret",
    ),
    "OAUTHBEARER without a provider": (
        {
            "kafka__securityProtocol": "SASL_SSL",
            "kafka__sasl__mechanism": "OAUTHBEARER",
            "kafka__sasl__existingSecret": "x",
        },
        "kafka.sasl.oauth.tokenUrl is missing",
    ),
    "a certificate without TLS": (
        {"kafka__tls__existingSecret": "x"},
        "kafka.tls.existingSecret names a certificate, but kafka.securityProtocol is PLAINTEXT",
    ),
    "a relay without its password": (
        {"mail__routes": "*=smtp://me@relay.example:587?password_ref=relay"},
        "set relayPassword.existingSecret",
    ),
    "Strimzi without a Kafka": ({"topics__mode": "strimzi"}, "set topics.strimzi.cluster"),
    "external secrets without a store": ({"externalSecrets__enabled": True}, "set externalSecrets.storeRef.name"),
}

SCHEMA: dict[str, tuple[dict[str, Any], str]] = {
    "a value that there is not": ({"kafka__bootstraps": "x:1"}, "bootstraps"),
    "a value of a service that there is not": ({"services__deliver__replica": 2}, "replica"),
    "a kind that there is not": ({"services__deliver__kind": "DaemonSet"}, "kind"),
    "servers without a port": ({"kafka__bootstrap": "kafka"}, "bootstrap"),
    "a password in the URL": ({"clickhouse__url": "http://me:secret@clickhouse:8123"}, "url"),
    "a digest that is none": ({"image__digest": "latest"}, "digest"),
    "a drain longer than Sluice takes": ({"drainSeconds": 56}, "drainSeconds"),
    "a protocol that there is not": ({"kafka__securityProtocol": "TLS"}, "securityProtocol"),
    "a rule file that is not read": ({"rules": {"site.toml": "x"}}, "site.toml"),
    "memory that is no quantity": ({"services__deliver__resources": {"limits": {"memory": "lots"}}}, "memory"),
    "a setting out of bounds": ({"settings": {"patience_s": 61}}, "patience_s"),
    "a stabilisation that Kubernetes does not take": (
        {"services__compose__autoscaling": {"scaleDownSeconds": 3601}},
        "scaleDownSeconds",
    ),
}


@pytest.mark.parametrize("what", WORDS)
def test_refused_in_words(what: str) -> None:
    settings, words = WORDS[what]
    assert words in refused(**settings)


@pytest.mark.parametrize("what", SCHEMA)
def test_refused_by_the_schema(what: str) -> None:
    settings, name = SCHEMA[what]
    said = refused(**settings)
    assert "values don't meet the specifications of the schema" in said
    assert name in said


def test_as_many_pods_as_partitions_and_the_shortest_grace_are_taken() -> None:
    made = workload(
        render(services__deliver__replicas=2, services__deliver__terminationGracePeriodSeconds=35), "deliver"
    )
    assert made["spec"]["replicas"] == 2


def test_pods_that_are_scaled_are_not_counted_by_replicas() -> None:
    """The number in force is what is compared with the partitions."""
    scaling = {"mode": "hpa", "minReplicas": 1, "maxReplicas": 2}
    render(services__compose__replicas=50, services__compose__autoscaling=scaling)
