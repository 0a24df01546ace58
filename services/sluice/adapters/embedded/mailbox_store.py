"""What the mailbox server keeps: one file per mail, and one line per mail in ``index.jsonl``.

Both are written before the reply that takes the mail: what a client was told is taken is here.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec

INDEX = "index.jsonl"
SCRATCH = ".tmp"
MESSAGE_ID = re.compile(rb"^message-id[ \t]*:\s*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
END_OF_HEADER = re.compile(rb"\r?\n\r?\n")


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One mail that was taken. Times are seconds since the epoch, ``size`` is in bytes."""

    file: str
    """Path of the content, relative to the mailbox's folder."""
    rfc5322_message_id: str | None
    """The Message-ID field as it stands, angle brackets included."""
    mail_from: str
    """Empty for the null sender."""
    rcpt_to: list[str]
    peer: str
    size: int
    dot_at: float
    """When the final dot had been read."""
    replied_at: float | None
    """When the reply was written; None when the server was told to stay silent."""
    tls: str | None = None
    """Protocol version of the connection, None in clear."""


class Mailbox:
    """Reads what a mailbox server kept in ``folder``; the server may be running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def received(self) -> Iterator[Received]:
        """Every mail taken, in order; see :func:`read_index`."""
        return read_index(self.folder)

    def content(self, mail: Received) -> bytes:
        """The bytes of a mail, as they came between DATA and the final dot, dot-stuffing undone."""
        return (self.folder / mail.file).read_bytes()

    def copies(self) -> Counter[str | None]:
        """How many copies were taken of each Message-ID."""
        return Counter(mail.rfc5322_message_id for mail in self.received())


def read_index(folder: Path) -> Iterator[Received]:
    """Every mail taken so far, in order; nothing when the server never ran. A line being written is left out.

    Raises ``msgspec.DecodeError`` when the index was damaged.
    """
    try:
        index = (folder / INDEX).open("rb")
    except FileNotFoundError:
        return
    with index:
        decode = msgspec.json.Decoder(Received).decode
        for line in index:
            if line.endswith(b"\n"):
                yield decode(line)


class Store:
    """Writes what the server takes into ``folder``. One process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scratch = folder / SCRATCH
        self._scratch.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(folder / INDEX)
        self._index = (folder / INDEX).open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode
        self._domains: set[str] = set()

    def put(self, content: bytes, recipient: str, time_ns: int) -> str:
        """Write ``content`` under the domain of ``recipient``, whole or not at all; return its relative path."""
        domain = folder_name(recipient.rpartition("@")[2])
        if domain not in self._domains:
            (self._folder / domain).mkdir(exist_ok=True)
            self._domains.add(domain)
        digest = blake2b(content, digest_size=8, person=b"mailbox").hexdigest()
        name = f"{time_ns}-{digest}.eml"
        scratch = f"{self._scratch}/{name}"
        file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            written = 0
            while written < len(content):
                written += os.write(file, content[written:] if written else content)
        finally:
            os.close(file)
        relative = f"{domain}/{name}"
        os.rename(scratch, f"{self._folder}/{relative}")  # noqa: PTH104 -- once per mail
        return relative

    def add(self, mail: Received) -> None:
        """Append a line to the index; it is in the file when this returns."""
        self._index.write(self._encode(mail) + b"\n")

    def close(self) -> None:
        """Close the index."""
        self._index.close()


def message_id(content: bytes) -> str | None:
    """The Message-ID field of a mail's header, unfolded; None when it has none."""
    end = END_OF_HEADER.search(content)
    match = MESSAGE_ID.search(content, 0, end.end() if end else len(content))
    return match[1].decode("utf-8", "replace") if match else None


def folder_name(domain: str) -> str:
    """A recipient's domain as the name of a folder: what could leave the mailbox's folder or hide in it is replaced."""
    safe = re.sub(r"[^\w.-]", "_", domain.lower()).lstrip(".")
    return safe.encode()[:200].decode(errors="ignore") or "_"


def _drop_torn_line(index: Path) -> None:
    """A server killed while it wrote leaves half a line, whose mail it had not yet answered for."""
    if not index.exists():
        return
    with index.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
