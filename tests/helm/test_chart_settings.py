"""The chart's variables are Sluice's settings: by name, and with values that Sluice takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.helm.chart import (
    CHART,
    ROOT,
    SERVICES,
    SMALL,
    VALUES,
    Manifest,
    environment,
    every_values,
    pods,
    refused,
    render,
    rendered,
    workload,
)  # fmt: skip

from sluice.commands.groups import GROUPS, group_name
from sluice.runtime import wiring
from sluice.runtime.config import CONFIG_FILE, Settings, load_settings, unknown_settings

LARGE = CHART / "ci/large-values.yaml"


def mounted(pod: Manifest, folder: Path) -> dict[str, str]:
    """The pod's variables as its process sees them, its files put into ``folder``; references are given some text."""
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in container["volumeMounts"]:
        where = folder / mount["mountPath"].lstrip("/")
        where.mkdir(parents=True, exist_ok=True)
        for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
            for item in next(iter(source.values()))["items"]:
                (where / item["path"]).parent.mkdir(parents=True, exist_ok=True)
                (where / item["path"]).write_text("secret\n")
    return {
        name: str(folder) + value
        if isinstance(value, str) and value.startswith(("/run/", "/etc/"))
        else value
        if isinstance(value, str)
        else "referred"
        for name, value in environment(pod).items()
    }


@every_values
def test_every_variable_is_a_setting_and_services_take_them_all(
    values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process would say to them when it starts; an unknown or wrong one would end it."""
    import os

    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)
    for name, pod in pods(rendered(values)).items():
        variables = mounted(pod, tmp_path / name.replace(" ", "-"))
        ours = {key: value for key, value in variables.items() if key.startswith("SLUICE_")}
        assert unknown_settings(ours) == [], name
        with monkeypatch.context() as patch:
            for key, value in ours.items():
                patch.setenv(key, value)
            settings = load_settings()
            wiring.routes(settings)


@every_values
def test_settings_arrive_as_they_were_given(values: Path) -> None:
    import yaml

    given = yaml.safe_load(values.read_text())
    for service in SERVICES:
        variables = environment(workload(rendered(values), service)["spec"]["template"])
        own = given.get("services", {}).get(service, {}).get("settings", {})
        for name, value in {**given.get("settings", {}), **own}.items():
            told = variables[f"SLUICE_{name.upper()}"]
            assert told == (str(value).lower() if isinstance(value, bool) else str(value))


def test_large_numbers_keep_their_digits() -> None:
    """Helm reads numbers as floats, and 2.62144e+07 is no number of bytes."""
    variables = environment(
        workload(render(SMALL, settings={"max_message_bytes": 26214400}), "compose")["spec"]["template"]
    )
    assert variables["SLUICE_MAX_MESSAGE_BYTES"] == "26214400"


def test_the_settings_that_may_be_given_are_those_that_there_are() -> None:
    """All but those that other values set; their bounds are Sluice's."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    may = set(schema["$defs"]["settings"]["properties"])
    set_by_chart = {
        name.removeprefix("SLUICE_").removesuffix("_FILE").lower()
        for values in VALUES
        for pod in pods(rendered(values)).values()
        for name in environment(pod)
        if name.startswith("SLUICE_")
    }
    assert may <= Settings.model_fields.keys()
    neither = Settings.model_fields.keys() - may - set_by_chart
    assert not neither, "neither a value of the chart nor allowed in settings"
    assert "unknown_thing" in refused(settings={"unknown_thing": 1})
    assert "connections" in refused(settings={"connections": 0})
    assert "kafka_bootstrap" in refused(settings={"kafka_bootstrap": "x:1"})
    assert CONFIG_FILE.removeprefix("SLUICE_").lower() not in may


def test_a_static_member_is_named_after_its_pod_and_its_namespace() -> None:
    """Pods of two namespaces may share a Kafka; only deliver is static."""
    manifests = rendered(SMALL)
    names = {
        s: environment(workload(manifests, s)["spec"]["template"]).get("SLUICE_KAFKA_INSTANCE_ID") for s in SERVICES
    }
    assert names == {"compose": None, "deliver": "mail.$(SLUICE_NODE)", "wheel": None, "record": None}
    (container,) = workload(manifests, "deliver")["spec"]["template"]["spec"]["containers"]
    order = [variable["name"] for variable in container["env"]]
    assert order.index("SLUICE_NODE") < order.index("SLUICE_KAFKA_INSTANCE_ID"), "Kubernetes expands what came before"


def test_a_static_member_may_be_away_for_longer_than_it_takes_to_start_anew() -> None:
    """Its grace, and half a minute to be scheduled and to start. The others' partitions move sooner when they die."""
    manifests = rendered(SMALL)
    found = {}
    for service in SERVICES:
        pod = workload(manifests, service)["spec"]["template"]
        found[service] = int(environment(pod)["SLUICE_KAFKA_SESSION_TIMEOUT_S"])
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        assert service != "deliver" or found[service] >= grace + 30
    assert found["compose"] == Settings.model_fields["kafka_session_timeout_s"].default


def test_groups_and_topics_are_those_that_the_services_use() -> None:
    import yaml

    services = yaml.safe_load((CHART / "values.yaml").read_text())["services"]
    assert {name: set(services[name]["topics"]) for name in services} == {n: set(t) for n, t in GROUPS.items()}
    assert {name: services[name]["group"] for name in services} == {name: group_name(name) for name in GROUPS}


BUILDS = {
    "hashKey": r"hash_key|wiring\.recorder",
    "dkim": r"wiring\.signer",
    "rules": r"wiring\.rules",
    "relay": r"wiring\.routes",
    "smtp": r"wiring\.mailer",
    "clickhouse": r"wiring\.(clickhouse|outcome_store)",
}
"""What in a service's code tells that it has a need."""


@pytest.mark.parametrize("service", SERVICES)
def test_services_are_given_what_they_build_upon(service: str) -> None:
    """A key of the hash that is missing would fall back to the default, and no address would be found again."""
    import yaml

    code = "".join(path.read_text() for path in (ROOT / "services/sluice" / service).glob("*.py"))
    needs = yaml.safe_load((CHART / "values.yaml").read_text())["services"][service]["needs"]
    assert set(needs) == {need for need, trace in BUILDS.items() if re.search(trace, code)}


def test_services_run_what_there_is_to_run() -> None:
    manifests = rendered(SMALL)
    runs = {s: workload(manifests, s)["spec"]["template"]["spec"]["containers"][0]["args"] for s in SERVICES}
    assert runs == {service: ["run", service] for service in SERVICES}


def test_extra_variables_come_once_and_are_no_settings() -> None:
    value = [{"name": "TZ", "value": "UTC"}]
    assert environment(workload(render(services__wheel__extraEnv=value), "wheel")["spec"]["template"])["TZ"] == "UTC"
    assert "settings.log_level" in refused(services__wheel__extraEnv=[{"name": "SLUICE_LOG_LEVEL", "value": "debug"}])
    assert "twice" in refused(services__wheel__extraEnv=value * 2)


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    """The table of values, the schema's settings, the list of topics: deploy/helm/generate.py makes them."""
    command = [sys.executable, str(ROOT / "deploy/helm/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_every_value_is_described() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| .* \| ([^|]*) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 100
    assert not [name for name, meaning in rows if not meaning.strip()]


def test_every_property_of_the_schema_is_described() -> None:
    bare: list[str] = []

    def look(schema: Any, path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            if "description" not in inner and "$ref" not in inner:
                bare.append(f"{path}.{name}")
            look(inner, f"{path}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    look(schema, "")
    for name, inner in schema["$defs"].items():
        look(inner, name)
    assert bare == []
