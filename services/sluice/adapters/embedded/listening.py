"""A receiving server of this machine: its SMTP port, and one to control it by HTTP."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from sluice.adapters.embedded.ports import LOOPBACK, PortTaken


@asynccontextmanager
async def listening(
    conversation: Callable[[], asyncio.Protocol],
    routes: Sequence[web.RouteDef],
    *,
    port: int,
    control_port: int,
    host: str = LOOPBACK,
) -> AsyncIterator[None]:
    """Both ports, ``GET /healthz`` among the routes, until left. Raises :class:`PortTaken`.

    ``host`` is the address of the first; the other one is of 127.0.0.1.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    application = web.Application()
    application.add_routes([web.get("/healthz", health), *routes])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            server = await asyncio.get_running_loop().create_server(conversation, host, port, backlog=1024)
        except OSError as error:
            raise PortTaken(port, "the sink") from error
        try:
            await web.TCPSite(runner, LOOPBACK, control_port).start()
            yield
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def until_signal(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run ``serve`` with an event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(stop)
