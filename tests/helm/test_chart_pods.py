"""What every pod of the chart is like, those of hooks and tests included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helm.chart import (
    CHART,
    SERVICES,
    SMALL,
    VALUES,
    Manifest,
    every_values,
    one,
    pods,
    render,
    rendered,
    workload,
)  # fmt: skip

LARGE = CHART / "ci/large-values.yaml"


def unrestricted(spec: Manifest) -> list[str]:
    """What the restricted profile of Pod Security has against a pod (its rules that a pod without host access, Windows
    or sysctls can break)."""
    given = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    allowed = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    found += [f"volume {v['name']}" for v in spec.get("volumes", []) if not allowed & v.keys()]
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        own = {**given, **container.get("securityContext", {})}
        if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
            found.append("may be root")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities")
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccompProfile")
        found += [f"hostPort {port['hostPort']}" for port in container.get("ports", []) if port.get("hostPort")]
    return found


@every_values
def test_every_pod_is_restricted_and_has_no_token_and_a_read_only_root(values: Path) -> None:
    found = pods(rendered(values))
    assert {name.split()[0] for name in found} >= {"Deployment", "StatefulSet", "Job"}
    for name, pod in found.items():
        assert unrestricted(pod["spec"]) == [], name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["limits"]["memory"], name
            assert "cpu" not in container["resources"]["limits"], f"{name}: being throttled looks like a slow site"


@every_values
def test_no_variables_of_other_services_come_as_settings(values: Path) -> None:
    """For a Service named sluice Kubernetes would add SLUICE_PORT, and unknown settings end a process."""
    for name, pod in pods(rendered(values)).items():
        assert pod["spec"]["enableServiceLinks"] is False, name


@every_values
def test_no_variable_comes_twice(values: Path) -> None:
    """Server-side apply refuses it."""
    for name, pod in pods(rendered(values)).items():
        for container in pod["spec"]["containers"]:
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names)), name


@every_values
def test_what_is_mounted_is_there_and_only_tmp_can_be_written(values: Path) -> None:
    for name, pod in pods(rendered(values)).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        (container,) = pod["spec"]["containers"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys(), name
        assert [mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")] == ["/tmp"], name


@every_values
def test_selectors_select_their_own_pods_and_no_others(values: Path) -> None:
    """Of workloads, budgets, Services and spread."""
    manifests = rendered(values)
    for service in SERVICES:
        made = workload(manifests, service)
        labels = made["spec"]["template"]["metadata"]["labels"]
        selectors = [made["spec"]["selector"]["matchLabels"]]
        spread = made["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
        name = made["metadata"]["name"]
        for other in manifests:
            if other["kind"] == "PodDisruptionBudget" and other["metadata"]["name"] == name:
                selectors.append(other["spec"]["selector"]["matchLabels"])
            if other["kind"] == "Service" and other["metadata"]["name"] == name:
                selectors.append(other["spec"]["selector"])
        for selector in selectors:
            chosen = [pod for pod in pods(manifests).values() if selector.items() <= pod["metadata"]["labels"].items()]
            assert [pod["metadata"]["labels"] for pod in chosen] == [labels]


def test_a_new_chart_version_alone_moves_no_pod() -> None:
    """Versions are not among the labels of pods."""
    for service in SERVICES:
        pod = workload(rendered(SMALL), service)["spec"]["template"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & pod["metadata"]["labels"].keys()


def test_deliver_is_a_stateful_set_of_static_members_and_the_others_are_not() -> None:
    manifests = rendered(SMALL)
    kinds = {service: workload(manifests, service)["kind"] for service in SERVICES}
    assert kinds == {"compose": "Deployment", "deliver": "StatefulSet", "wheel": "Deployment", "record": "Deployment"}
    deliver = workload(manifests, "deliver")
    assert deliver["spec"]["podManagementPolicy"] == "Parallel"
    assert one(manifests, "Service", deliver["spec"]["serviceName"])["spec"]["clusterIP"] == "None"


@every_values
def test_the_grace_is_longer_than_the_drain(values: Path) -> None:
    """And so is the process's own end, which comes five seconds after the drain."""
    for service in SERVICES:
        pod = workload(rendered(values), service)["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        drain = next(int(v["value"]) for v in container["env"] if v["name"] == "SLUICE_DRAIN_S")
        before = int(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0, 0])[1])
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + before + 10


@every_values
def test_pods_are_asked_how_they_are_where_they_listen(values: Path) -> None:
    for service in SERVICES:
        pod = workload(rendered(values), service)["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert container["ports"] == [{"name": "health", "containerPort": int(variables["SLUICE_HEALTH_PORT"])}]


def rolled_by_rules(**settings: Any) -> set[str]:
    """The services whose pods change when a rule file does."""

    def templates(text: str) -> dict[str, Any]:
        manifests = render(SMALL, rules={"sites.toml": text}, **settings)
        return {service: workload(manifests, service)["spec"]["template"] for service in SERVICES}

    before, after = templates("a = 1\n"), templates("a = 2\n")
    return {service for service in SERVICES if before[service] != after[service]}


def test_changed_rules_roll_no_pods_unless_nobody_looks_for_changes() -> None:
    """They take them over while they run; the mount follows the ConfigMap, since it is that of a whole folder."""
    assert rolled_by_rules() == set()
    assert rolled_by_rules(settings={"rules_poll_s": 0}) == {"compose", "deliver"}
    assert rolled_by_rules(services__deliver__settings={"rules_poll_s": 0}) == {"deliver"}
    pod = workload(render(SMALL, rules={"triggers.toml": "a = 1\n"}), "deliver")["spec"]["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "rules")
    assert "subPath" not in mount


def test_a_setting_of_one_service_rolls_that_one_only() -> None:
    before, after = render(SMALL), render(SMALL, services__deliver__settings={"connections": 50})
    changed = {
        service
        for service in SERVICES
        if workload(before, service)["spec"]["template"] != workload(after, service)["spec"]["template"]
    }
    assert changed == {"deliver"}


def test_keys_are_mounted_where_compose_looks_for_them_and_nowhere_else() -> None:
    manifests = rendered(LARGE)
    found = {
        service: {
            item["path"]
            for volume in workload(manifests, service)["spec"]["template"]["spec"]["volumes"]
            if volume["name"] == "dkim"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        for service in SERVICES
    }
    keys = {"acme.example/s202611-rsa.pem", "acme.example/s202611-ed25519.pem", "shop.example/s1.pem"}
    assert found == {"compose": keys, "deliver": set(), "wheel": set(), "record": set()}


def test_no_secret_is_made_by_the_chart_or_stands_in_a_variable() -> None:
    for values in VALUES:
        manifests = rendered(values)
        assert not [m for m in manifests if m["kind"] == "Secret"]
        for name, pod in pods(manifests).items():
            for container in pod["spec"]["containers"]:
                plain = {variable["name"] for variable in container["env"] if "value" in variable}
                assert not {n for n in plain if n.endswith(("_PASSWORD", "_HASH_KEY"))}, name
