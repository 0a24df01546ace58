"""Figures of this process and of the machine, or the container, that it runs on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from sluice.adapters.system.cgroups import ControlGroups
from sluice.ports.figures import Figure
from sluice.ports.machine_metrics import (
    CPU_LIMIT,
    CPU_THROTTLED,
    DISK_FREE,
    DISK_SIZE,
    HOST_CPU,
    HOST_MEMORY,
    HOST_NETWORK,
    HOST_NETWORK_ERRORS,
    HOST_PRESSURE,
    HOST_SOCKETS,
    MEMORY_LIMIT,
    MEMORY_USED,
    PROCESS_CPU,
    PROCESS_FILES,
    PROCESS_FILES_MAX,
    PROCESS_MEMORY,
    PROCESS_STARTED,
    PROCESS_THREADS,
)

_MODES = ("user", "system", "iowait", "steal", "idle")
_SOCKETS = {"inuse": "in_use", "tw": "time_wait", "orphan": "orphaned"}


class Machine:
    """Looks when it is asked, which takes a millisecond or two: not in an event loop.

    ``folders`` are those whose disks are watched, by the name that they are told under.
    """

    def __init__(
        self, folders: Mapping[str, Path], groups: ControlGroups | None = None, proc: Path = Path("/proc")
    ) -> None:
        self._folders = {**folders, "work": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
        self._groups = groups or ControlGroups()
        self._proc = proc
        self._process = psutil.Process()

    def figures(self) -> Iterator[Figure]:
        """All that can be read here; what the system does not tell is left out. May block."""
        yield from self._of_process()
        yield from self._limits()
        yield from self._disks()
        yield from self._of_host()
        yield from self._pressure()
        yield from self._sockets()

    def _of_process(self) -> Iterator[Figure]:
        with self._process.oneshot():
            times = self._process.cpu_times()
            yield Figure(PROCESS_CPU, times.user + times.system)
            yield Figure(PROCESS_MEMORY, self._process.memory_info().rss)
            yield Figure(PROCESS_THREADS, self._process.num_threads())
            yield Figure(PROCESS_STARTED, self._process.create_time())
        yield Figure(PROCESS_FILES, self._process.num_fds())
        if (most := _most_files()) is not None:
            yield Figure(PROCESS_FILES_MAX, most)

    def _limits(self) -> Iterator[Figure]:
        memory = self._groups.memory()
        machine = psutil.virtual_memory()
        used, limit = (
            (machine.total - machine.available, machine.total) if memory is None else (memory.used, memory.limit)
        )
        # A limit above what the machine has is none.
        if limit > machine.total:
            used, limit = machine.total - machine.available, machine.total
        yield Figure(MEMORY_USED, used)
        yield Figure(MEMORY_LIMIT, limit)
        yield Figure(HOST_MEMORY, machine.total, ("total",))
        yield Figure(HOST_MEMORY, machine.available, ("available",))
        yield Figure(CPU_LIMIT, min(self._groups.cpus() or float("inf"), _cpus()))
        if (throttled := self._groups.throttled()) is not None:
            yield Figure(CPU_THROTTLED, throttled)

    def _disks(self) -> Iterator[Figure]:
        seen: set[int] = set()
        # Of two folders on one disk the first is told: the one that was named.
        for name, folder in self._folders.items():
            try:
                device, usage = folder.stat().st_dev, shutil.disk_usage(folder)
            except OSError:
                continue
            if device in seen:
                continue
            seen.add(device)
            yield Figure(DISK_FREE, usage.free, (name,))
            yield Figure(DISK_SIZE, usage.total, (name,))

    def _of_host(self) -> Iterator[Figure]:
        times = psutil.cpu_times()
        for mode in _MODES:
            if (spent := getattr(times, mode, None)) is not None:
                yield Figure(HOST_CPU, spent, (mode,))
        interfaces: Mapping[str, Any] = psutil.net_io_counters(pernic=True)
        outside = [counters for name, counters in interfaces.items() if name != "lo"]
        yield Figure(HOST_NETWORK, sum(one.bytes_recv for one in outside), ("received",))
        yield Figure(HOST_NETWORK, sum(one.bytes_sent for one in outside), ("sent",))
        yield Figure(HOST_NETWORK_ERRORS, sum(one.errin + one.dropin for one in outside), ("received",))
        yield Figure(HOST_NETWORK_ERRORS, sum(one.errout + one.dropout for one in outside), ("sent",))

    def _pressure(self) -> Iterator[Figure]:
        """proc_pressure: lines ``some avg10=… avg60=… avg300=… total=MICROSECONDS``."""
        for resource in ("cpu", "memory", "io"):
            path = self._groups.pressure(resource) or self._proc / "pressure" / resource
            for line in _lines(path):
                tasks, _, rest = line.partition(" ")
                total = rest.rpartition("total=")[2]
                if tasks in ("some", "full") and total.isdigit():
                    yield Figure(HOST_PRESSURE, int(total) / 1e6, (resource, tasks))

    def _sockets(self) -> Iterator[Figure]:
        """Of the network namespace: ``TCP: inuse 5 orphan 0 tw 3 alloc 5 mem 1``, and ``TCP6: inuse 2``."""
        found: dict[str, int] = {}
        for line in _lines(self._proc / "net/sockstat") + _lines(self._proc / "net/sockstat6"):
            kind, _, rest = line.partition(":")
            words = rest.split()
            if kind in ("TCP", "TCP6"):
                for name, value in zip(words[::2], words[1::2], strict=False):
                    if name in _SOCKETS and value.isdigit():
                        found[name] = found.get(name, 0) + int(value)
        for name, count in found.items():
            yield Figure(HOST_SOCKETS, count, (_SOCKETS[name],))


def _most_files() -> int | None:
    try:
        import resource
    except ImportError:  # where there is no such limit
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
