"""What a process tells of itself and of the machine or container that it runs on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest
from opentelemetry.sdk.resources import Resource
from tests.support.figures import by_labels

from sluice.adapters.system.cgroups import ControlGroups, Memory
from sluice.adapters.system.machine import Machine
from sluice.adapters.telemetry.meters import Meters
from sluice.domain.errors import RuleError
from sluice.ports.metrics import LIVE, METRICS, Figure
from sluice.runtime.config import load_settings
from sluice.runtime.telemetry import watched_disks

MIB = 1 << 20


def write(folder: Path, files: dict[str, str]) -> None:
    """Files with their texts below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def groups(tmp_path: Path, membership: str, files: dict[str, str]) -> ControlGroups:
    """Control groups as the kernel would show them."""
    write(tmp_path, {"membership": membership, **{f"fs/{name}": text for name, text in files.items()}})
    return ControlGroups(tmp_path / "fs", tmp_path / "membership")


def test_a_containers_limit_counts_and_file_cache_does_not(tmp_path: Path) -> None:
    """Version 2, as in a pod: the group is the root of what can be seen."""
    found = groups(
        tmp_path, "0::/\n",
        {
            "cgroup.controllers": "cpu memory\n", "memory.max": f"{100 * MIB}\n", "memory.current": f"{90 * MIB}\n",
            "memory.stat": f"anon 1\ninactive_file {30 * MIB}\n", "cpu.max": "150000 100000\n",
            "cpu.stat": "usage_usec 5\nthrottled_usec 2500000\n", "cpu.pressure": "some avg10=0.00 total=7\n",
        },
    )  # fmt: skip
    assert found.memory() == Memory(60 * MIB, 100 * MIB)
    assert found.cpus() == 1.5
    assert found.throttled() == 2.5
    assert found.pressure("cpu") == tmp_path / "fs/cpu.pressure"
    assert found.pressure("io") is None


def test_of_groups_in_one_another_that_nearest_to_its_limit_counts(tmp_path: Path) -> None:
    found = groups(
        tmp_path, "0::/mail/deliver\n",
        {
            "cgroup.controllers": "memory\n",
            "mail/memory.max": f"{200 * MIB}\n", "mail/memory.current": f"{190 * MIB}\n",
            "mail/deliver/memory.max": f"{100 * MIB}\n", "mail/deliver/memory.current": f"{10 * MIB}\n",
            "mail/cpu.max": "50000 100000\n", "mail/deliver/cpu.max": "max 100000\n",
        },
    )  # fmt: skip
    assert found.memory() == Memory(190 * MIB, 200 * MIB)
    assert found.cpus() == 0.5


def test_version_1_is_read_where_it_is_mounted(tmp_path: Path) -> None:
    found = groups(
        tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
        {
            "memory/docker/abc/memory.limit_in_bytes": f"{64 * MIB}\n",
            "memory/docker/abc/memory.usage_in_bytes": f"{32 * MIB}\n",
            "memory/docker/abc/memory.stat": f"total_inactive_file {MIB}\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n",
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000\n",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/docker/abc/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )  # fmt: skip
    assert found.memory() == Memory(31 * MIB, 64 * MIB)
    assert found.cpus() == 2.0
    assert found.throttled() == 1.5
    assert found.pressure("cpu") is None


@pytest.mark.parametrize("membership", ["", "0::/\n", "nonsense\n\n1:2\n"])
def test_without_limits_the_machines_are_told(tmp_path: Path, membership: str) -> None:
    none = groups(tmp_path, membership, {"memory.max": "max\n", "cpu.max": "max 100000\n"})
    assert (none.memory(), none.cpus(), none.throttled(), none.pressure("io")) == (None, None, None, None)
    figures = list(Machine({}, none, tmp_path).figures())
    assert by_labels(figures, "sluice.memory.limit")[()] == psutil.virtual_memory().total
    assert 1 <= by_labels(figures, "sluice.cpu.limit")[()] <= (os.cpu_count() or 1)
    assert by_labels(figures, "sluice.cpu.throttled") == {}


def test_a_limit_that_the_machine_has_not_memory_for_is_none(tmp_path: Path) -> None:
    much = psutil.virtual_memory().total * 4
    files = {"cgroup.controllers": "memory\n", "memory.max": f"{much}\n", "memory.current": "5\n"}
    figures = list(Machine({}, groups(tmp_path, "0::/\n", files)).figures())
    assert by_labels(figures, "sluice.memory.limit")[()] == much / 4


def test_pressure_and_sockets_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pressure/cpu": "some avg10=5.44 avg60=2.77 avg300=4.52 total=6378666571\nfull avg10=0.00 total=0\n",
            "net/sockstat": "sockets: used 5\nTCP: inuse 5 orphan 1 tw 30 alloc 5 mem 1\nUDP: inuse 1 mem 1\n",
            "net/sockstat6": "TCP6: inuse 2\nUDP6: inuse 4\n",
        },
    )
    figures = list(Machine({}, ControlGroups(tmp_path, tmp_path / "none"), tmp_path).figures())
    assert by_labels(figures, "sluice.host.pressure") == {("cpu", "some"): 6378.666571, ("cpu", "full"): 0.0}
    assert by_labels(figures, "sluice.host.sockets") == {("in_use",): 7, ("orphaned",): 1, ("time_wait",): 30}


def test_this_process_and_machine_can_be_told() -> None:
    """Every figure is in the list with its labels; an open socket is a file more."""
    machine = Machine({})
    before = list(machine.figures())
    with socket.socket():
        after = list(machine.figures())
    assert by_labels(after, "process.open.fds")[()] == by_labels(before, "process.open.fds")[()] + 1
    for figure in after:
        assert figure.metric in METRICS
        assert len(figure.labels) == len(figure.metric.labels)
        assert figure.value >= 0
    assert by_labels(after, "process.cpu")[()] > 0
    assert by_labels(after, "process.resident.memory")[()] > MIB
    assert by_labels(after, "process.max.fds")[()] > by_labels(after, "process.open.fds")[()]
    assert 0 < by_labels(after, "sluice.memory.used")[()] < by_labels(after, "sluice.memory.limit")[()]
    assert by_labels(after, "sluice.host.cpu")[("idle",)] > 0


def test_a_disk_is_told_once_by_the_name_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(disks=f"data={tmp_path},gone={tmp_path}/gone")
    figures = list(Machine(watched_disks(settings)).figures())
    free, size = by_labels(figures, "sluice.disk.free"), by_labels(figures, "sluice.disk.size")
    assert ("data",) in free
    assert ("work",) not in free
    assert ("gone",) not in free
    assert free.keys() == size.keys()
    assert 0 < free["data",] < size["data",]


@pytest.mark.parametrize("text", ["data", "=x", "Data=/x", "a=/x,", "a=/x,b"])
def test_disks_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(RuleError, match="SLUICE_DISKS"):
        load_settings(disks=text)


async def test_mails_figures_are_told_even_when_the_machine_tells_nothing() -> None:
    def broken() -> list[Figure]:
        raise PermissionError("/proc")

    meters = Meters("wheel", Resource({}), lambda: [Figure(LIVE, True)], aside=broken)
    text = (await meters.text()).decode()
    await meters.close()
    assert 'sluice_live{service="wheel"} 1.0' in text
