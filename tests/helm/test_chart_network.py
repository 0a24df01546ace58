"""Who may reach whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helm.chart import CHART, SERVICES, SMALL, Manifest, every_values, pods, render, rendered

LARGE = CHART / "ci/large-values.yaml"
KEDA = CHART / "ci/keda-values.yaml"


def policies(manifests: Any) -> dict[str, Manifest]:
    """By component; the one for all has none."""
    found = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    label = "app.kubernetes.io/component"
    return {m["spec"]["podSelector"]["matchLabels"].get(label, "all"): m["spec"] for m in found}


def ports_out(policy: Manifest) -> set[int]:
    """Ports that may be reached."""
    return {port["port"] for rule in policy.get("egress", []) for port in rule.get("ports", [])}


@every_values
def test_everything_is_denied_that_is_not_named(values: Path) -> None:
    """For every pod of ours: one policy that allows nothing, and one of its component's."""
    manifests = rendered(values)
    found = policies(manifests)
    assert found["all"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in found["all"]
    assert "ingress" not in found["all"]
    for name, pod in pods(manifests).items():
        labels = pod["metadata"]["labels"]
        assert found["all"]["podSelector"]["matchLabels"].items() <= labels.items(), name
        own = found[labels["app.kubernetes.io/component"]]["podSelector"]["matchLabels"]
        assert own.items() <= labels.items(), name


@every_values
def test_no_rule_allows_every_port(values: Path) -> None:
    for name, policy in policies(rendered(values)).items():
        for rule in (*policy.get("egress", []), *policy.get("ingress", [])):
            assert rule.get("ports"), name


def test_only_deliver_reaches_mail_servers_and_their_policies() -> None:
    found = policies(rendered(LARGE))
    assert {name for name, policy in found.items() if {25, 587, 443} & ports_out(policy)} == {"deliver"}
    assert ports_out(found["deliver"]) == {53, 9094, 25, 587, 443, 2525}


def test_without_mta_sts_deliver_does_not_reach_the_web() -> None:
    assert 443 in ports_out(policies(rendered(KEDA))["deliver"])
    assert 443 not in ports_out(policies(render(KEDA, settings={"mta_sts": False}))["deliver"])


def test_whoever_asks_kafka_by_token_reaches_the_provider() -> None:
    """The check, which reaches nobody, asks for no token."""
    oauth = {"tokenUrl": "https://id.example:8443/token"}
    sasl = {"mechanism": "OAUTHBEARER", "existingSecret": "x", "oauth": oauth}
    found = policies(render(kafka__securityProtocol="SASL_SSL", kafka__sasl=sasl, networkPolicy__oauth__ports=[7443]))
    reaching = {name for name, policy in found.items() if 7443 in ports_out(policy)}
    assert reaching == {*SERVICES, "topics", "schema", "test"}
    assert not any(
        7443 in ports_out(policy) for policy in policies(render(networkPolicy__oauth__ports=[7443])).values()
    )


def test_only_what_uses_clickhouse_reaches_it() -> None:
    found = policies(rendered(LARGE))
    assert {name for name, policy in found.items() if 8443 in ports_out(policy)} == {"record", "schema", "test"}


def test_mail_does_not_go_to_private_addresses_unless_they_are_named() -> None:
    rules = policies(rendered(LARGE))["deliver"]["egress"]
    (smtp,) = (rule for rule in rules if {"port": 25} in rule["ports"])
    blocks = {peer["ipBlock"]["cidr"]: set(peer["ipBlock"]["except"]) for peer in smtp["to"]}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= blocks["0.0.0.0/0"]
    (inside,) = (rule for rule in policies(rendered(SMALL))["deliver"]["egress"] if {"port": 1025} in rule["ports"])
    assert list(inside["to"][0]) == ["namespaceSelector"]


def test_nobody_reaches_a_pod_but_who_may_ask_for_its_health() -> None:
    """The kubelet may always. The test's sink is reached by deliver, and by the test to see that it can be."""
    assert {name for name, policy in policies(rendered(SMALL)).items() if policy.get("ingress")} == {"test"}
    found = policies(rendered(LARGE))
    for name in ("compose", "deliver", "wheel", "record"):
        (rule,) = found[name]["ingress"]
        assert rule["ports"] == [{"port": 8080}]
    assert not [name for name in ("topics", "schema") if found[name].get("ingress")]


def test_the_check_reaches_nobody() -> None:
    assert "egress" not in policies(rendered(LARGE))["check"]


def test_a_rule_of_ones_own_is_for_all() -> None:
    extra = [{"ports": [{"port": 4318}], "to": [{"podSelector": {}}]}]
    found = policies(render(SMALL, networkPolicy__extraEgress=extra))
    assert all(4318 in ports_out(policy) for name, policy in found.items() if name not in ("all", "check"))


def test_policies_can_be_left_to_others() -> None:
    assert policies(render(SMALL, networkPolicy__enabled=False)) == {}
