"""The one folder that a local stack keeps everything in."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from sluice.domain.errors import SluiceError
from sluice.runtime.supervisor import LOCK, FolderInUse

MARK = "sluice-data"
"""A file that says that a folder is ours, so that nothing else is ever wiped."""


class NotOurs(SluiceError):
    """The operator's fault: a folder that Sluice did not make is not wiped."""


class DataFolder:
    """Paths below a local stack's folder. Nothing is made before :meth:`make`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.kafka = self.path / "kafka"
        self.clickhouse = self.path / "clickhouse"
        self.mailbox = self.path / "mailbox"
        self.keys = self.path / "keys"
        self.rules = self.path / "rules"
        self.logs = self.path / "logs"
        self.ports = self.path / "ports.json"
        self.environment = self.path / "sluice.env"

    def make(self) -> None:
        """Create the folder, and mark it as ours. Raises :class:`FolderInUse` while a stack runs on it."""
        self.ensure_idle()
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / MARK).touch()

    def ensure_idle(self) -> None:
        """Raise :class:`FolderInUse` when a supervisor runs on the folder."""
        try:
            lock = (self.path / LOCK).open()
        except FileNotFoundError:
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderInUse(self.path, lock.read().strip()) from error

    def wipe(self) -> None:
        """Remove the folder. Raises :class:`FolderInUse`; :class:`NotOurs` when Sluice did not make it."""
        if not self.path.exists():
            return
        if any(self.path.iterdir()) and not (self.path / MARK).exists():
            raise NotOurs(
                f"{self.path} holds files that Sluice did not make: remove it yourself, or use another folder"
            )
        self.ensure_idle()
        shutil.rmtree(self.path)
