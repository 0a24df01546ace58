"""The embedded ClickHouse as a process of its own: its command line, and starting and stopping it."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from sluice.adapters.embedded.ports import LOOPBACK, ensure_free, free_port
from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)

_LOG_TAIL = 2000
STOP_TIMEOUT = 30.0


class ClickHouseNotReady(SluiceError):
    """The embedded ClickHouse ended, or did not answer in time; the message has the end of its log."""


class EmbeddedClickHouse:
    """A ClickHouse on 127.0.0.1 whose tables live in ``data`` and survive restarts.

    A caller runs :meth:`command` under a supervisor, or uses the object as a context manager.
    """

    def __init__(self, data: Path, port: int) -> None:
        self.data = data.resolve()
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def on_free_port(cls, data: Path) -> Self:
        """One on a port free at this moment, for tests."""
        return cls(data, free_port())

    @property
    def url(self) -> str:
        """Address of its HTTP interface."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Where :meth:`start` puts its log; a supervisor keeps its own."""
        return self.data / "clickhouse.log"

    @property
    def pid(self) -> int | None:
        """Of the process of :meth:`start`."""
        return self._process.pid if self._process else None

    def prepare(self) -> None:
        """Look whether the port is free; raises :class:`PortTaken`."""
        self.data.mkdir(parents=True, exist_ok=True)
        ensure_free(self.port, "ClickHouse")

    def command(self) -> list[str]:
        """Its command line; it logs to standard output and stops cleanly on SIGTERM."""
        module = "sluice.adapters.embedded.clickhouse"
        return [sys.executable, "-m", module, "--port", str(self.port), "--data", str(self.data)]

    def is_ready(self) -> bool:
        """Whether it answers queries now; blocks for at most a second."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=1)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Return when it answers, tens of seconds after the first start on a machine.

        Raises :class:`ClickHouseNotReady` after ``timeout`` seconds, or when a process of :meth:`start` has ended.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self._process is not None and self._process.poll() is not None:
                raise ClickHouseNotReady(f"ClickHouse ended with {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ClickHouseNotReady(f"{self.url} did not answer for {timeout:g} s:\n{self._log_tail()}")
            time.sleep(0.05)

    def start(self, timeout: float = 120.0) -> None:
        """Run it as a child of this process and wait until it is ready. Raises what those raise."""
        self.prepare()
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            self.wait_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> int | None:
        """End what :meth:`start` started: SIGTERM, then SIGKILL after ``timeout`` seconds; returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning("ClickHouse did not stop in time and is killed", seconds=timeout)
            process.kill()
            return process.wait()

    def kill(self) -> None:
        """End what :meth:`start` started with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-_LOG_TAIL:] if self.log_file.exists() else "(no log)"
