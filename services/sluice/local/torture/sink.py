"""An adversarial receiving server: ``python -m sluice.local.torture.sink --data FOLDER``.

It writes down every mail before it answers, and answers as it is told: not at all, with a reset, with 421. It offers
PIPELINING and CHUNKING, so that mails in one write are hurt too.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from pathlib import Path
from typing import Literal, cast, get_args

import uvloop
from aiohttp import web

from sluice.adapters.embedded.incoming import Command, Content, Incoming
from sluice.adapters.embedded.listening import listening, until_signal
from sluice.adapters.embedded.mailbox_store import message_id
from sluice.domain.errors import SluiceError
from sluice.local.torture.proxy import LINGER_NONE
from sluice.local.torture.sinklog import SinkLog

Mode = Literal["normal", "hang", "drop", "busy"]
MODES: tuple[Mode, ...] = get_args(Mode)
EHLO = b"250-sink.localhost\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n"
BUSY = b"421 4.3.2 Too busy\r\n"


class Desk:
    """What all connections share."""

    def __init__(self, log: SinkLog) -> None:
        self.log = log
        self.mode: Mode = "normal"
        self.accepted = 0
        self._turn = 0

    def busy_at_mail(self) -> bool:
        """Whether this mail is refused at MAIL: every other one; the rest are after the final dot."""
        self._turn += 1
        return self.mode == "busy" and self._turn % 2 == 0


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._incoming = Incoming()
        self._chunks = bytearray()
        self._silent = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.write(b"220 sink.localhost ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete."""
        self._incoming.feed(data)
        while not self._silent and self._transport is not None and (item := self._incoming.take()) is not None:
            reply = self._take(item) if isinstance(item, Content) else self._answer(item)
            if reply is None:
                return
            self._transport.write(reply)
            if reply.startswith((b"221", b"421")):
                self._silent = True
                self._transport.close()

    def _answer(self, command: Command) -> bytes:
        match command.verb:
            case b"EHLO":
                return EHLO
            case b"MAIL":
                return BUSY if self._desk.busy_at_mail() else b"250 2.1.0 Ok\r\n"
            case b"RCPT":
                return b"250 2.1.5 Ok\r\n"
            case b"DATA":
                self._incoming.expect_content()
                return b"354 Go ahead\r\n"
            case b"RSET" | b"NOOP":
                self._chunks.clear()
                return b"250 2.0.0 Ok\r\n"
            case b"QUIT":
                return b"221 2.0.0 Bye\r\n"
        return b"502 5.5.2 Not known here\r\n"

    def _take(self, content: Content) -> bytes | None:
        self._chunks += content.octets
        if not content.last:
            return b"250 2.0.0 Go on\r\n"
        whole = bytes(self._chunks)
        self._chunks.clear()
        return self._conclude(whole)

    def _conclude(self, content: bytes) -> bytes | None:
        """Write down a mail whose end was read, then what is answered."""
        desk, mode = self._desk, self._desk.mode
        number = desk.log.dot((message_id(content) or "").strip("<>").partition("@")[0], kept=mode != "busy")
        match mode:
            case "normal":
                desk.accepted += 1
                desk.log.replied(number, "250")
                return b"250 2.0.0 Taken\r\n"
            case "busy":
                desk.log.replied(number, "421")
                return BUSY
            case "hang":
                desk.log.replied(number, "none")
            case "drop":
                desk.log.replied(number, "reset")
                self._reset()
        self._silent = True
        return None

    def _reset(self) -> None:
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self._transport.abort()


async def serve(data: Path, port: int, control_port: int, stop: asyncio.Event) -> None:
    """Take mails until ``stop``. Raises :class:`.PortTaken`.

    At ``control_port``: ``GET /healthz``; ``GET /stats``; ``PUT /mode`` with one of :data:`MODES` as its body.
    """
    log = SinkLog(data)
    desk = Desk(log)

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({"accepted": desk.accepted, "mode": desk.mode})

    async def change(request: web.Request) -> web.Response:
        wanted = await request.text()
        mode = next((mode for mode in MODES if mode == wanted), None)
        if mode is None:
            return web.Response(status=400, text=f"not one of {', '.join(MODES)}\n")
        desk.mode = mode
        return web.Response(text="ok\n")

    routes = [web.get("/stats", stats), web.put("/mode", change)]
    try:
        async with listening(lambda: Conversation(desk), routes, port=port, control_port=control_port):
            await stop.wait()
    finally:
        log.close()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. 0, or 2 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m sluice.local.torture.sink", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where sink.jsonl goes")
    parser.add_argument("--port", type=int, required=True)
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
