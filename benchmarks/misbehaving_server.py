"""A receiving server that changes its manners while it runs; it notes when it took which mail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Literal, Self

Manner = Literal["fine", "storm", "greylisting", "slow banner", "disconnects", "garbage", "multi-line"]

OFFERS = b"250-storm.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 10000000\r\n"
BANNER_DELAY = 6.0
GREY_FOR = 6.0
"""Seconds after its first attempt for which a recipient is greylisted."""
GARBAGE = (b"\x00\xff\xfe\x80 !!\r\n", b"<html><body>Bad Gateway</body></html>\r\n", b"2x0 well\r\n", b"999\r\n")
ABORTED = ("banner", "MAIL", "DATA", "content", "dot", "")
"""When connections are cut, in turn; after ``dot`` the server has the mail and does not say so. One is left alone."""


class MisbehavingServer:
    """Listens on a free port of 127.0.0.1. Set :attr:`manner` at any time: it holds from the next command on."""

    def __init__(self) -> None:
        self.manner: Manner = "fine"
        self.port = 0
        self.taken: list[tuple[float, str]] = []
        """When the final dot of a mail was read, seconds since the epoch, and for whom."""
        self.connections: list[float] = []
        """When each connection came."""
        self.open = 0
        self.most_open = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._first_seen: dict[str, float] = {}
        self._turns: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut_all()

    def cut_all(self) -> None:
        """End every connection without a word, as a restart does."""
        for writer in self._writers:
            writer.transport.abort()

    def in_turn(self, what: str, count: int) -> int:
        """0 … ``count`` - 1, the next one each time."""
        self._turns[what] += 1
        return (self._turns[what] - 1) % count

    def is_grey(self, recipient: str) -> bool:
        """Whether a recipient must still wait; its first attempt begins the wait."""
        now = time.time()
        return now - self._first_seen.setdefault(recipient, now) < GREY_FOR

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(time.time())
        self._writers.add(writer)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Conversation(self, reader, writer).run()
        except (OSError, EOFError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()


class _Conversation:
    def __init__(self, server: MisbehavingServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._recipient = ""
        self._begun = False
        self._cut_at = ABORTED[server.in_turn("cut", len(ABORTED))] if server.manner == "disconnects" else ""

    async def run(self) -> None:
        if self._server.manner == "slow banner":
            await asyncio.sleep(BANNER_DELAY)
        if self._cuts("banner"):
            return
        self._say(b"220 storm.example ESMTP\r\n")
        while line := await self._reader.readline():
            words = line.decode("latin-1").upper().partition(" ")
            verb = words[0].strip()
            if self._cuts(verb) or not await self._answer(verb, line):
                return

    async def _answer(self, verb: str, line: bytes) -> bool:
        """False ends the connection."""
        match verb:
            case "EHLO":
                self._say(OFFERS)
            case "MAIL":
                self._begun = self._said_yes(b"250 2.1.0 ok\r\n")
            case "RCPT":
                return self._rcpt(line)
            case "DATA":
                return await self._data()
            case "QUIT":
                self._say(b"221 2.0.0 bye\r\n")
                return False
            case _:
                self._begun = False
                self._say(b"250 2.0.0 ok\r\n")
        return True

    def _rcpt(self, line: bytes) -> bool:
        self._recipient = line.decode("latin-1").partition("<")[2].partition(">")[0]
        if not self._begun:
            self._say(b"503 5.5.1 MAIL first\r\n")
        elif self._server.manner == "storm":
            self._say(b"421 4.7.0 Too many messages from your address, please slow down\r\n")
            return False
        elif self._server.manner == "greylisting" and self._server.is_grey(self._recipient):
            self._begun = False
            self._say(b"451 4.7.1 Greylisted, please come back later\r\n")
        else:
            self._say(b"250 2.1.5 ok\r\n")
        return True

    async def _data(self) -> bool:
        if not self._begun:
            self._say(b"503 5.5.1 RCPT first\r\n")
            return True
        self._say(b"354 go on\r\n")
        if self._cuts("content"):
            return False
        while await self._reader.readuntil(b"\r\n") != b".\r\n":
            pass
        self._begun = False
        self._server.taken.append((time.time(), self._recipient))
        if self._cuts("dot"):
            return False
        if self._server.manner == "multi-line":
            lines = [b"250-2.0.0 line %d of what we have to tell you about your mail" % n for n in range(60)]
            self._say(b"\r\n".join([*lines, b"250 2.0.0 taken\r\n"]))
        else:
            self._say(b"250 2.0.0 taken\r\n")
        return True

    def _said_yes(self, answer: bytes) -> bool:
        if self._server.manner == "garbage":
            self._say(GARBAGE[self._server.in_turn("garbage", len(GARBAGE))])
            return False
        self._say(answer)
        return True

    def _cuts(self, moment: str) -> bool:
        if self._cut_at != moment or self._server.manner != "disconnects":
            return False
        self._writer.transport.abort()
        return True

    def _say(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)
