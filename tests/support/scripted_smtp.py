"""An SMTP server that does exactly what it is told, misbehaviour included, and keeps every byte it gets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

Script = Callable[["Peer"], Awaitable[None]]

OFFERS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 1000000")


class Peer:
    """One connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.commands: list[bytes] = []
        """Command lines heard, without line end."""
        self.contents: list[bytes] = []
        """Raw bytes after each 354, up to and with the final dot; and those of each chunk."""

    async def say(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self) -> bytes:
        """The next command line, without its end; empty at the end of the connection."""
        line = (await self.reader.readline()).rstrip(b"\r\n")
        if line:
            self.commands.append(line)
        return line

    async def hear_content(self) -> bytes:
        """Raw bytes up to and with the final dot."""
        content = await self.reader.readexactly(3)
        while content != b".\r\n" and not content.endswith(b"\r\n.\r\n"):
            content += await self.reader.readuntil(b"\n")
        self.contents.append(content)
        return content

    async def hear_chunk(self, command: bytes) -> bytes:
        """As many raw bytes as a BDAT command announced."""
        chunk = await self.reader.readexactly(int(command.split()[1]))
        self.contents.append(chunk)
        return chunk

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of the handshake."""
        await self.writer.start_tls(context)

    async def gone(self) -> None:
        """Say nothing until the client goes away."""
        while await self.reader.read(65_536):
            pass

    def cut(self) -> None:
        """End the connection without a word."""
        self.writer.transport.abort()


_USUAL = {
    "banner": b"220 scripted ESMTP\r\n",
    "MAIL": b"250 2.1.0 fine\r\n",
    "RCPT": b"250 2.1.5 fine\r\n",
    "DATA": b"354 go on\r\n",
    "dot": b"250 2.0.0 taken\r\n",
    "BDAT": b"250 2.0.0 taken\r\n",
    "RSET": b"250 2.0.0 forgotten\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
    "STARTTLS": b"220 2.0.0 go on\r\n",
}
_TOO_EARLY = {("RCPT", "MAIL"), ("DATA", "MAIL"), ("DATA", "RCPT"), ("BDAT", "MAIL"), ("BDAT", "RCPT")}


def polite(
    answers: Mapping[str, bytes | Script] | None = None,
    *,
    offers: tuple[str, ...] = OFFERS,
    context: ssl.SSLContext | None = None,
) -> Script:
    """A server that accepts everything, but for what ``answers`` says about a moment.

    Moments are ``banner``, the verbs in upper case, and ``dot``. Bytes are sent as they are; a function takes over, and
    the conversation goes on afterwards unless it ended the connection. A 354 in answer to DATA makes the server listen
    to content; before it answers BDAT, where CHUNKING is among the offers, it has listened to the chunk. Commands out
    of order get 503, as a refused MAIL makes of the RCPT behind it. ``answers`` may be changed while the server runs.
    With ``context``, STARTTLS is offered.
    """
    told = answers if answers is not None else {}

    async def converse(peer: Peer) -> None:
        await _Conversation(peer, told, offers, context).run()

    return converse


class _Conversation:
    def __init__(
        self, peer: Peer, told: Mapping[str, bytes | Script], offers: tuple[str, ...], context: ssl.SSLContext | None
    ) -> None:
        self.peer = peer
        self.told = told
        self.offers = offers
        self.context = context
        self.next = "MAIL"

    async def run(self) -> None:
        await self.act("banner")
        while line := await self.peer.hear():
            verb = line[:8].decode("latin-1").upper().partition(" ")[0]
            if verb == "BDAT" and "CHUNKING" in self.offers and not callable(self.told.get("BDAT")):
                await self.peer.hear_chunk(line)
            if verb == "EHLO" and "EHLO" not in self.told:
                starttls = ("STARTTLS",) if self.context else ()
                await self.peer.say(_multiline(250, ["scripted", *self.offers, *starttls]))
            elif await self.act(verb, b"503 5.5.1 not now\r\n" if (verb, self.next) in _TOO_EARLY else None):
                await self.agreed(verb)
            if verb == "QUIT":
                return

    async def act(self, moment: str, otherwise: bytes | None = None) -> bool:
        """Answer; True when that was a yes."""
        answer = self.told.get(moment, otherwise or _USUAL.get(moment, b"500 5.5.2 what?\r\n"))
        if not isinstance(answer, bytes):
            await answer(self.peer)
            return False
        await self.peer.say(answer)
        return answer.startswith((b"2", b"354"))

    async def agreed(self, verb: str) -> None:
        if verb == "STARTTLS" and self.context:
            await self.peer.start_tls(self.context)
            self.context = None
        elif verb == "DATA":
            await self.peer.hear_content()
            await self.act("dot")
            self.next = "MAIL"
        else:
            self.next = {"MAIL": "RCPT", "RCPT": "DATA", "RSET": "MAIL", "BDAT": "MAIL"}.get(verb, self.next)


def _multiline(code: int, lines: list[str]) -> bytes:
    *more, last = lines
    return "".join([f"{code}-{line}\r\n" for line in more] + [f"{code} {last}\r\n"]).encode()


class ScriptedServer:
    """Listens on 127.0.0.1, on a free port. Connections use ``scripts`` in turn; the last one stays.

    ``receive_buffer`` (octets) makes the system hold back a client early.
    """

    def __init__(
        self,
        *scripts: Script,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        receive_buffer: int | None = None,
    ) -> None:
        self._scripts = list(scripts)
        self._context = context
        self._host = host
        self._receive_buffer = receive_buffer
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            await script(peer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        except Exception as error:  # shown by the test at its end
            self.failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def __aenter__(self) -> ScriptedServer:
        listening = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        if self._receive_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            listening.bind((self._host, self.port))
        except OSError:
            listening.close()
            raise
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=self._context, limit=1 << 20)
        self.port = listening.getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(BaseException):
                await task
        assert not self.failures, self.failures
