"""What the adversarial sink has taken, in a file that outlives it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sluice.local.torture.records import Copy, Reply

FILE = "sink.jsonl"


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """``number`` is the mail's, counted from the start of process ``run``; ``kept`` stands in the line of the dot."""

    run: int
    number: int
    at: float
    message_id: str = ""
    kept: bool | None = None
    reply: Reply | None = None


class SinkLog:
    """Appends to the file. A line is with the system when a call returns, so a SIGKILL of this process loses none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        # A kill in the middle of a write leaves half a line: what follows begins on a line of its own.
        os.write(self._file, b"\n")
        self._run = os.getpid() << 32 | int(time.time()) & 0xFFFFFFFF
        self._number = 0
        self._encode = msgspec.json.Encoder().encode

    def dot(self, message_id: str, *, kept: bool) -> int:
        """Write that a mail's final dot was read; returns its number."""
        self._number += 1
        self._write(_Line(self._run, self._number, time.time(), message_id, kept))
        return self._number

    def replied(self, number: int, reply: Reply) -> None:
        """Write what is done about a mail, before it is done."""
        self._write(_Line(self._run, number, time.time(), reply=reply))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, line: _Line) -> None:
        os.write(self._file, self._encode(line) + b"\n")


def read_sink_log(folder: Path) -> Iterator[Copy]:
    """Every mail whose dot was read, in order; half a line is left out. The sink may be running."""
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return
    decode = msgspec.json.Decoder(_Line).decode
    mails: dict[tuple[int, int], _Line] = {}
    replies: dict[tuple[int, int], Reply] = {}
    for line in content.splitlines():
        try:
            found = decode(line)
        except msgspec.DecodeError:
            continue
        if found.kept is not None:
            mails[found.run, found.number] = found
        elif found.reply is not None:
            replies[found.run, found.number] = found.reply
    for key, mail in mails.items():
        yield Copy(mail.message_id, mail.at, mail.kept is True, replies.get(key))
