"""A receiving server that can fall silent, as a black hole or by taking a minute for each mail."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self

Manner = Literal["fine", "hole", "slow"]
OFFERS = b"250-silent.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"


class SilentServer:
    """Listens on a free port of 127.0.0.1. ``hole`` takes connections and says nothing, on those that are open too;
    ``slow`` answers the final dot after ``delay`` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._manner: Manner = "fine"
        self._open: set[asyncio.StreamWriter] = set()
        self._silence = asyncio.Event()
        self.port = 0
        self.most_open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self._cut()

    def turn(self, manner: Manner) -> None:
        """Behave like that from now on; who was left without an answer is cut off when it is fine again."""
        self._manner = manner
        if manner == "fine":
            self._cut()

    def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        self._silence.set()
        self._silence = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.most_open = max(self.most_open, len(self._open))
        with contextlib.suppress(OSError, EOFError):
            await self._talk(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._say(writer, b"220 silent.example ESMTP\r\n")
        while line := await reader.readline():
            match line[:4].upper().rstrip():
                case b"EHLO":
                    await self._say(writer, OFFERS)
                case b"DATA":
                    await self._say(writer, b"354 go on\r\n")
                    while await reader.readline() != b".\r\n":
                        pass
                    if self._manner == "slow":
                        await asyncio.sleep(self._delay)
                    await self._say(writer, b"250 2.0.0 ok\r\n")
                case b"QUIT":
                    return
                case _:
                    await self._say(writer, b"250 2.0.0 ok\r\n")

    async def _say(self, writer: asyncio.StreamWriter, text: bytes) -> None:
        if self._manner == "hole":
            await self._silence.wait()
        writer.write(text)
        await writer.drain()
