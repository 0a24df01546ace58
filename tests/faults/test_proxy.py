"""The proxy in front of every part does to connections what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sluice.adapters.embedded.ports import free_port
from sluice.local.torture.proxy import FAIR, Proxy, Weather

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that answers each line in capitals, and notes the pieces in which it came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.broken = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                self.pieces.append(piece)
                writer.write(piece.upper())
                await writer.drain()
        except ConnectionError:
            self.broken += 1
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    made = Proxy(free_port(), echo.port)
    await made.start()
    yield made
    await made.stop()


async def connect(proxy: Proxy) -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(streams: Streams, line: bytes, patience: float = 10.0) -> bytes:
    streams[1].write(line)
    return await asyncio.wait_for(streams[0].readline(), patience)


async def test_in_fair_weather_everything_passes_both_ways(proxy: Proxy) -> None:
    streams = await connect(proxy)
    assert await ask(streams, b"hello\n") == b"HELLO\n"
    large = b"x" * 300_000 + b"\n"
    streams[1].write(large)
    assert await asyncio.wait_for(streams[0].readexactly(len(large)), 10) == large.upper()
    streams[1].write_eof()
    assert await asyncio.wait_for(streams[0].read(), 10) == b""
    streams[1].close()


async def test_packets_are_late_by_the_latency_each_way(proxy: Proxy) -> None:
    streams = await connect(proxy)
    await ask(streams, b"a\n")
    proxy.weather = Weather(latency=0.2)
    began = time.monotonic()
    assert await ask(streams, b"late\n") == b"LATE\n"
    assert time.monotonic() - began >= 0.4
    streams[1].close()


async def test_packets_are_cut_and_nothing_is_lost(proxy: Proxy, echo: Echo) -> None:
    proxy.weather = Weather(slices=7)
    streams = await connect(proxy)
    line = bytes(range(65, 91)) * 8 + b"\n"
    assert await ask(streams, line) == line
    assert len(echo.pieces) > 1
    assert b"".join(echo.pieces) == line
    streams[1].close()


async def test_a_hole_swallows_and_gives_back(proxy: Proxy, echo: Echo) -> None:
    old = await connect(proxy)
    await ask(old, b"a\n")
    proxy.weather = Weather(hole=True)
    new = await connect(proxy)
    for streams in (old, new):
        with pytest.raises(TimeoutError):
            await ask(streams, b"into the dark\n", 0.3)
    assert echo.pieces == [b"a\n"]
    proxy.weather = FAIR
    for streams in (old, new):
        assert await asyncio.wait_for(streams[0].readline(), 10) == b"INTO THE DARK\n"
        streams[1].close()


async def test_a_reset_is_one_on_both_sides(proxy: Proxy, echo: Echo) -> None:
    streams = [await connect(proxy) for _ in range(3)]
    for each in streams:
        await ask(each, b"a\n")
    assert proxy.reset() == 3
    for reader, writer in streams:
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
    for _ in range(100):
        if echo.broken == 3:
            break
        await asyncio.sleep(0.05)
    assert echo.broken == 3
    again = await connect(proxy)
    assert await ask(again, b"again\n") == b"AGAIN\n"
    again[1].close()


async def test_where_nobody_listens_behind_it_the_connection_is_reset() -> None:
    proxy = Proxy(free_port(), free_port())
    await proxy.start()
    reader, writer = await connect(proxy)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await proxy.stop()
