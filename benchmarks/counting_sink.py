"""Postfix's ``smtp-sink``: the receiver that all systems deliver to. It answers, counts, and keeps nothing."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable

from packages import Tools
from processes import Program

from sluice.domain.errors import SluiceError

READ_EVERY = 0.02
"""Seconds: how exactly the moment of a mail is known."""
_COUNT = re.compile(rb"mesg=(\d+)[ \r]")


class MailsMissing(SluiceError):
    """Fewer mails arrived than were sent, and no more came."""


class CountingSink:
    """Use as a context manager, in the main thread. ``-c`` makes it write a running count after each final dot."""

    def __init__(self, tools: Tools, port: int) -> None:
        self._tools = tools
        self._port = port
        self._seen: list[tuple[float, int]] = [(0.0, 0)]

    def __enter__(self) -> CountingSink:
        command = [str(self._tools.smtp_sink), "-c"]
        if os.geteuid() == 0:
            command += ["-u", self._tools.unprivileged]
        self._program = Program([*command, f"127.0.0.1:{self._port}", "1000"], log=None, env=self._tools.environment)
        self._reader = threading.Thread(target=self._read, name="sink", daemon=True)
        self._reader.start()
        self._program.wait_until_listening(self._port)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.pid

    @property
    def count(self) -> int:
        """Mails taken so far."""
        return self._seen[-1][1]

    def wait_for(self, count: int, patience: float, say: Callable[[int], None] = lambda _: None) -> float:
        """When the ``count``-th mail was taken, seconds since the epoch.

        Raises :class:`MailsMissing` when none comes for ``patience`` seconds.
        """
        best, moved, told = -1, time.monotonic(), time.monotonic()
        while self.count < count:
            if self.count > best:
                best, moved = self.count, time.monotonic()
            if time.monotonic() - moved > patience:
                raise MailsMissing(f"the sink took {best} of {count} mails, and none more for {patience:g} s")
            if time.monotonic() - told > 5:
                told = time.monotonic()
                say(self.count)
            time.sleep(READ_EVERY)
        return next(moment for moment, taken in self._seen if taken >= count)

    def _read(self) -> None:
        output = self._program.output.fileno()
        rest = b""
        while True:
            try:
                data = os.read(output, 1 << 16)
            except (OSError, ValueError):
                return
            if not data:
                return
            rest += data
            found = _COUNT.findall(rest)
            if found:
                self._seen.append((time.time(), int(found[-1])))
                rest = rest[rest.rindex(b"mesg=") :] if not rest.endswith(b"\r") else b""
            time.sleep(READ_EVERY)
