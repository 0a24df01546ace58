"""A TCP proxy that is late, cuts, resets or swallows what passes, as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import msgspec

from sluice.adapters.embedded.ports import LOOPBACK, PortTaken

CHUNK = 64 * 1024
LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that resets the connection."""


class Weather(msgspec.Struct, frozen=True):
    """How packets fare. ``latency`` seconds pass before each goes on; ``slices`` bytes go on at a time, 0 for all;
    in a ``hole`` nothing goes on and nothing is lost, as where a network is parted and comes together again.
    """

    latency: float = 0.0
    slices: int = 0
    hole: bool = False


FAIR = Weather()


class Proxy:
    """Passes connections to ``port`` on to ``target``, both on the loopback address. Runs in the current loop."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._weather = FAIR
        self._clear = asyncio.Event()
        self._clear.set()
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self.passed = 0
        """Connections since the start."""

    async def start(self) -> None:
        """Listen. Raises :class:`PortTaken`."""
        try:
            self._server = await asyncio.start_server(self._pass, LOOPBACK, self.port, limit=CHUNK, backlog=512)
        except OSError as error:
            raise PortTaken(self.port, "a proxy") from error

    async def stop(self) -> None:
        """Listen no more, and reset what is open."""
        if self._server is not None:
            self._server.close()
        self.reset()
        await asyncio.gather(*(pair.ended for pair in set(self._pairs)), return_exceptions=True)

    @property
    def weather(self) -> Weather:
        """What holds for packets from now on."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather.hole:
            self._clear.clear()
        else:
            self._clear.set()

    def reset(self) -> int:
        """Reset every connection, on both sides; returns how many there were."""
        pairs = set(self._pairs)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            await self._clear.wait()
            onward, backward = await asyncio.open_connection(LOOPBACK, self._target, limit=CHUNK)
            pair.writers.append(backward)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, backward))
                group.create_task(self._pump(onward, writer))
        except* (OSError, ConnectionError):
            # Nobody listens, or one side broke off: the other side is to see the same.
            pair.reset()
        finally:
            self._pairs.discard(pair)
            pair.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._clear.wait()
            size = self._weather.slices or len(data)
            for start in range(0, len(data), size):
                if self._weather.latency:
                    await asyncio.sleep(self._weather.latency)
                await self._clear.wait()
                writer.write(data[start : start + size])
                await writer.drain()
                if size < len(data):
                    # One packet each: without a pause the system joins them again.
                    await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Pair:
    """A connection of a client, and the one that it is passed on by."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def reset(self) -> None:
        for writer in self.writers:
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
        if not self.ended.done():
            self.ended.set_result(None)
