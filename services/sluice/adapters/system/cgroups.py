"""What the kernel lets this process's container use, and how much of it is used (Linux control groups, both versions).

A process is in a group that lies in others; each may have a limit. In a container the first one that can be seen is
the container's own. See cgroups(7), and the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 writes a number near 2**63 for no limit."""


class Memory(msgspec.Struct, frozen=True):
    """Bytes; ``used`` without file cache that was not touched lately, which the kernel drops before it kills."""

    used: int
    limit: int


class ControlGroups:
    """The groups that this process is in. Where there are none, everything is None."""

    def __init__(self, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> None:
        self._mount = mount
        self._membership = membership

    def memory(self) -> Memory | None:
        """Of the group that is nearest to its limit; None when none has one."""
        found = [told for group in self._groups("memory") if (told := _memory(group)) is not None]
        return max(found, key=lambda told: told.used / told.limit, default=None)

    def cpus(self) -> float | None:
        """CPUs' worth of time that may be used, by the least quota; None without one."""
        return min((quota for quota, _ in self._limited()), default=None)

    def used(self) -> float | None:
        """Seconds of CPU time that the group with the least quota has used; None without a quota."""
        limited = min(self._limited(), default=None)
        return None if limited is None else _used(limited[1])

    def throttled(self) -> float | None:
        """Seconds in which threads were kept from running by the quota; None without one."""
        return max((_throttled(group) for _, group in self._limited()), default=None)

    def pressure(self, resource: str) -> Path | None:
        """The file that tells the group's own pressure; None when there is none, as in version 1."""
        for group in self._groups(""):
            return path if (path := group / f"{resource}.pressure").exists() else None
        return None

    def _limited(self) -> Iterator[tuple[float, Path]]:
        """The groups that have a quota of CPU time, with it."""
        for group in self._groups("cpu"):
            if (quota := _quota(group)) is not None:
                yield quota, group

    def _groups(self, controller: str) -> Iterator[Path]:
        """The folders of its groups for a controller, its own first; version 1 has several trees."""
        for line in _read(self._membership).splitlines():
            number, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            if number == "0" and (self._mount / "cgroup.controllers").exists():
                yield from _upwards(self._mount, path)
            elif controller and controller in names.split(","):
                yield from _upwards(self._mount / names, path)
                if names != controller:
                    yield from _upwards(self._mount / controller, path)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _memory(group: Path) -> Memory | None:
    for limit_file, used_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(group / limit_file), _number(group / used_file)
        if limit and used is not None and limit < _UNLIMITED:
            droppable = _stat(group / "memory.stat").get(cache, 0)
            return Memory(max(0, used - droppable), limit)
    return None


def _quota(group: Path) -> float | None:
    both = _read(group / "cpu.max").split()
    if len(both) == 2 and both[0] != "max":
        return int(both[0]) / int(both[1])
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _used(group: Path) -> float | None:
    """Version 1 keeps it beside the quota where both controllers are in one tree, as they usually are."""
    if (spent := _stat(group / "cpu.stat").get("usage_usec")) is not None:
        return spent / 1e6
    nanoseconds = _number(group / "cpuacct.usage")
    return None if nanoseconds is None else nanoseconds / 1e9


def _throttled(group: Path) -> float:
    told = _stat(group / "cpu.stat")
    return told.get("throttled_usec", 0) / 1e6 + told.get("throttled_time", 0) / 1e9


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
