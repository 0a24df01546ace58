"""A receiving server that only counts: ``python -m sluice.adapters.embedded.sink --data FOLDER``.

For measuring, where the mailbox (aiosmtpd, a file per mail) would be what is measured. It keeps no content; its index
is the mailbox's, read by :class:`.mailbox_store.Mailbox`. It takes every mail, speaks no TLS, and answers pipelined
commands in one write.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from aiohttp import web

from sluice.adapters.embedded.incoming import Command, Content, Incoming
from sluice.adapters.embedded.listening import listening, until_signal
from sluice.adapters.embedded.mailbox_store import INDEX, Received, message_id
from sluice.adapters.embedded.ports import LOOPBACK
from sluice.domain.errors import SluiceError

LARGEST_COMMAND = 64 * 1024
BYE = b"221 2.0.0 Bye\r\n"
WRITE_EVERY = 0.25
"""Seconds between writes of the index."""
EHLO = (
    b"250-sink.localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n"
)


class Index:
    """The mails taken, written in batches."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / INDEX).open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self.accepted = 0

    def add(self, content: bytes, sender: str, recipients: list[str]) -> None:
        """Note a mail whose final dot was read now."""
        now = time.time()
        mail = Received(
            file="",
            rfc5322_message_id=message_id(content),
            mail_from=sender,
            rcpt_to=recipients,
            peer="",
            size=len(content),
            dot_at=now,
            replied_at=now,
        )
        self._lines.append(self._encode(mail))
        self.accepted += 1

    def write(self) -> None:
        """Put what was noted since the last time into the file."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._file.write(b"\n".join(lines) + b"\n")

    def close(self) -> None:
        """Write and close."""
        self.write()
        self._file.close()


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._incoming = Incoming()
        self._sender = ""
        self._recipients: list[str] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.write(b"220 sink.localhost ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete."""
        self._incoming.feed(data)
        replies: list[bytes] = []
        while (item := self._incoming.take()) is not None:
            replies.append(self._take(item) if isinstance(item, Content) else self._answer(item))
        if self._transport is None:
            return
        if replies:
            self._transport.write(b"".join(replies))
        if replies[-1:] == [BYE] or self._incoming.unread > LARGEST_COMMAND:
            self._transport.close()

    def _take(self, content: Content) -> bytes:
        self._index.add(content.octets, self._sender, self._recipients)
        self._recipients = []
        return b"250 2.0.0 Counted\r\n"

    def _answer(self, command: Command) -> bytes:
        match command.verb:
            case b"EHLO":
                return EHLO
            case b"MAIL":
                self._sender, self._recipients = _path(command.line), []
                return b"250 2.1.0 Ok\r\n"
            case b"RCPT":
                self._recipients.append(_path(command.line))
                return b"250 2.1.5 Ok\r\n"
            case b"DATA" if self._recipients:
                self._incoming.expect_content()
                return b"354 Go ahead\r\n"
            case b"DATA":
                return b"503 5.5.1 No recipients\r\n"
            case b"RSET" | b"NOOP" | b"HELO":
                self._recipients = []
                return b"250 2.0.0 Ok\r\n"
            case b"QUIT":
                return BYE
        return b"502 5.5.2 Not known here\r\n"


def _path(line: bytes) -> str:
    return line[line.find(b"<") + 1 : line.find(b">")].decode("utf-8", "replace")


async def serve(data: Path, port: int, control_port: int, stop: asyncio.Event, *, host: str = LOOPBACK) -> None:
    """Count mails until ``stop``; ``GET /healthz`` and ``/stats`` at ``control_port``. Raises :class:`.PortTaken`.

    The chart's test has deliver reach it from another pod: ``host`` is the address of ``port``.
    """
    index = Index(data)

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({"accepted": index.accepted})

    try:
        routes = [web.get("/stats", stats)]
        async with listening(lambda: Conversation(index), routes, port=port, control_port=control_port, host=host):
            while not stop.is_set():
                index.write()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), WRITE_EVERY)
    finally:
        index.close()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. 0, or 2 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m sluice.adapters.embedded.sink", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where index.jsonl goes")
    parser.add_argument("--port", type=int, default=2525)
    parser.add_argument("--control-port", type=int, required=True)
    options = parser.parse_args(argv)
    try:
        uvloop.run(until_signal(lambda stop: serve(options.data, options.port, options.control_port, stop)))
    except SluiceError as error:
        sys.stderr.write(f"sink: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
