"""Processes of a benchmark: started so that they end with it, and what they use in processor time and memory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from sluice.domain.errors import SluiceError
from sluice.runtime import launch

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


class DidNotStart(SluiceError):
    """A program ended, or did not listen in time; the message ends with the last lines it wrote."""


class Program:
    """A program that runs until :meth:`stop`; the kernel kills it when this process dies. Start it in the main thread.

    Its output goes to ``log``, or to :attr:`output` where ``log`` is None.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path | None, env: Mapping[str, str] = {}, cwd: Path | None = None
    ) -> None:
        # The same small program that starts the stack's own children.
        launcher = [sys.executable, "-I", "-S", str(launch.__file__), str(os.getpid())]
        self._log = log
        self._name = Path(command[0]).name
        with contextlib.ExitStack() as closing:
            out = subprocess.PIPE if log is None else closing.enter_context(log.open("wb"))
            self._process = subprocess.Popen(
                [*launcher, *command],
                env={**os.environ, **env},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> IO[bytes]:
        """What it writes."""
        assert self._process.stdout is not None
        return self._process.stdout

    def wait_until_listening(self, port: int, patience: float = 30.0) -> None:
        """Return when 127.0.0.1:``port`` accepts connections. Raises :class:`DidNotStart`."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise DidNotStart(f"{self._name} ended at once ({self._process.returncode}): {self._last_words()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise DidNotStart(f"{self._name} did not listen within {patience:g} s: {self._last_words()}")

    def stop(self, patience: float = 20.0) -> None:
        """SIGTERM, and SIGKILL to it after ``patience`` seconds. Does nothing twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        if self._log is None:
            return "(its output was not kept)"
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-5:]) or "it said nothing"


def tree_cpu(pid: int) -> float:
    """Seconds of processor time of a process and all that came of it, those that have ended included."""
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(entry.name))
            # proc(5): utime, stime, and those of children that were waited for.
            used[int(entry.name)] = sum(map(int, fields[11:15]))
    total, left = 0, [pid]
    while left:
        process = left.pop()
        total += used.get(process, 0)
        left += children[process]
    return total / TICKS


def resident(pid: int) -> int:
    """Bytes of a process that are in memory now (VmRSS); 0 when there is no such process."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
