"""How busy the processors are: of the machine, and of a container's quota."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sluice.adapters.system.cgroups import ControlGroups
from sluice.adapters.system.load import SystemLoad


class Container:
    """A control group's files, in version 2 or 1."""

    def __init__(self, folder: Path, *, version: int) -> None:
        membership, files = (
            ("0::/pod", folder / "pod") if version == 2 else ("3:cpu,cpuacct:/pod", folder / "cpu,cpuacct/pod")
        )
        files.mkdir(parents=True)
        self._files = files
        self._version = version
        (folder / "membership").write_text(membership)
        if version == 2:
            (folder / "cgroup.controllers").write_text("cpu memory")
            (files / "cpu.max").write_text("50000 100000")
        else:
            (files / "cpu.cfs_quota_us").write_text("50000")
            (files / "cpu.cfs_period_us").write_text("100000")
        self.uses(0.0)
        self.groups = ControlGroups(folder, folder / "membership")

    def uses(self, seconds: float) -> None:
        """CPU time in all."""
        if self._version == 2:
            (self._files / "cpu.stat").write_text(f"usage_usec {round(seconds * 1e6)}\nnr_throttled 3\n")
        else:
            (self._files / "cpuacct.usage").write_text(f"{round(seconds * 1e9)}")


@pytest.mark.parametrize("version", [2, 1])
def test_a_container_that_uses_up_its_quota_is_busy_whatever_the_machine_has_left(tmp_path: Path, version: int) -> None:
    """Half a processor may be used, and two were for the time."""
    container = Container(tmp_path, version=version)
    load = SystemLoad(container.groups)
    container.uses(60.0)
    assert load.busy() == 1.0


@pytest.mark.parametrize("version", [2, 1])
def test_what_a_container_used_of_its_quota_is_told(tmp_path: Path, version: int) -> None:
    container = Container(tmp_path, version=version)
    container.uses(7.0)
    assert container.groups.used() == pytest.approx(7.0)


def test_without_a_quota_nothing_is_told_of_what_is_used(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/")
    assert ControlGroups(tmp_path, tmp_path / "membership").used() is None


def test_processors_that_work_are_busier_than_those_that_rest() -> None:
    """One that spins is in use; how busy the others are is their affair, so this says only what must hold."""
    load = SystemLoad()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 1 / (2 * (os.cpu_count() or 1)) <= load.busy() <= 1.0
