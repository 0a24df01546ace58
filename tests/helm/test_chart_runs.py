"""The chart's pods do what they are for: what helm renders is run, over real Kafka and ClickHouse.

There is no cluster: each container is a process with the variables, files, arguments, probes and grace of its pod.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helm.chart import SERVICES, SMALL, Manifest, one, run, workload
from tests.helm.kubelet import Kubelet, Pod
from tests.support.stack import Stack, open_stack, wait_for

from sluice.domain.topics import OUTCOME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SINK = "sluice-test.mail.svc.cluster.local"
SECRETS = {"sluice": {"hash-key": "a key of the hash"}}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka and ClickHouse, with 4 partitions of lanes."""
    made = open_stack(tmp_path_factory.mktemp("parts") / "data", [])
    try:
        made.start("kafka", "clickhouse")
        yield made
    finally:
        made.close()


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    # Root by choice: the mounts of a sandbox are not to be had everywhere.
    made = Kubelet(tmp_path, SECRETS, sandbox=bool(os.environ.get("CHART_SANDBOX")))
    yield made
    made.close()


def manifests(parts: Stack, **settings: Any) -> list[Manifest]:
    """The small installation over these parts, names of the cluster's replaced by addresses of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = {
        "kafka__bootstrap": parts.bootstrap,
        "kafka__sendPartitions": 4,
        "kafka__lanePartitions": 6,
        "kafka__wheelPartitions": 2,
        "clickhouse__url": parts.local.settings.clickhouse_url,
        **settings,
    }
    done = run(SMALL, **chosen)
    assert done.returncode == 0, done.stderr
    text = json.dumps([one for one in yaml.safe_load_all(done.stdout) if one])
    text = text.replace(f"{SINK}:2525", f"127.0.0.1:{port}").replace(f'"{SINK}", "2525"', f'"127.0.0.1", "{port}"')
    assert SINK not in text
    found: list[Manifest] = json.loads(text)
    return found


def test_an_installation_from_its_hooks_to_a_mail_and_its_end(parts: Stack, kubelet: Kubelet) -> None:
    """Topics grow, services become ready, helm test's mail is delivered once, and all stop within their grace."""
    made = manifests(parts)
    for name in ("check", "topics", "schema"):
        job = kubelet.run(name, one(made, "Job", f"sluice-{name}")["spec"]["template"])
        assert job.result() == 0, job.log
    assert parts.local.settings.kafka_lane_partitions == 4
    running = {s: kubelet.run(f"sluice-{s}-0", workload(made, s)["spec"]["template"]) for s in SERVICES}
    for pod in running.values():
        pod.until_ready()
        assert pod.probe("liveness")
    test = kubelet.run("sluice-test", one(made, "Pod", "sluice-test"))
    assert test.result() == 0, test.log
    assert "the sink took 1 mails" in test.log
    assert {row["node"] for row in parts.query("SELECT DISTINCT node FROM {db}.outcomes")} >= {
        "sluice-compose-0",
        "sluice-deliver-0",
    }
    # An upgrade runs the hooks beside the old pods.
    for name in ("check", "topics", "schema"):
        job = kubelet.run(name, one(made, "Job", f"sluice-{name}")["spec"]["template"])
        assert job.result() == 0, job.log
    for name, pod in running.items():
        assert pod.delete() == 0, f"{name}:\n{pod.log[-3000:]}"


def test_an_upgrade_that_would_take_partitions_away_stops_at_its_hook(parts: Stack, kubelet: Kubelet) -> None:
    """Before anything is changed; it says what to set."""
    first = kubelet.run("topics", one(manifests(parts), "Job", "sluice-topics")["spec"]["template"])
    assert first.result() == 0, first.log
    fewer = one(manifests(parts, kafka__lanePartitions=2), "Job", "sluice-topics")["spec"]["template"]
    job = kubelet.run("topics", fewer)
    assert job.result() == 1
    assert "Kafka never takes partitions away" in job.log
    assert OUTCOME in job.log


def test_a_wrong_setting_stops_an_upgrade_at_its_first_hook(parts: Stack, kubelet: Kubelet) -> None:
    """A route that leads nowhere: no schema could know."""
    job = one(manifests(parts, mail__routes="*=nowhere"), "Job", "sluice-check")["spec"]["template"]
    found = kubelet.run("check", job)
    assert found.result() == 2
    assert "routes" in found.log


def test_a_wrong_rule_stops_an_upgrade_at_its_first_hook(parts: Stack, kubelet: Kubelet) -> None:
    """The old pods go on with the old rules."""
    made = manifests(parts, rules={"sites.toml": '[[site]]\nname = "slow"\nrats = "1/s"\n'})
    to_come = one(made, "ConfigMap", "sluice-check")["data"]
    found = kubelet.run("check", one(made, "Job", "sluice-check")["spec"]["template"], to_come)
    assert found.result() == 2
    assert "rats" in found.log


def test_an_update_of_deliver_moves_no_partitions(parts: Stack, kubelet: Kubelet) -> None:
    """A static member that comes back under its pod's name has its partitions again, and the others notice nothing."""
    made = manifests(parts)
    job = kubelet.run("topics", one(made, "Job", "sluice-topics")["spec"]["template"])
    assert job.result() == 0, job.log
    template = workload(made, "deliver")["spec"]["template"]

    def owned(pod: Pod) -> list[list[int]]:
        """What it was given, each time."""
        lines = [line for line in pod.log.splitlines() if "partitions.assigned" in line]
        return [json.loads(line)["partitions"] for line in lines]

    pods = {name: kubelet.run(name, template) for name in ("sluice-deliver-0", "sluice-deliver-1")}
    for pod in pods.values():
        pod.until_ready()
    wait_for(
        lambda: [owned(pod)[-1:] for pod in pods.values()],
        lambda found: sorted(n for last in found for given in last for n in given) == list(range(6)),
        120,
        "all six partitions to be shared out",
    )
    stays, goes = pods.values()
    before = owned(stays)
    had = owned(goes)[-1]
    assert goes.delete() == 0
    again = kubelet.run("sluice-deliver-1", template)
    again.until_ready()
    assert owned(again)[-1] == had
    assert owned(stays) == before
    for pod in (stays, again):
        assert pod.delete() == 0
