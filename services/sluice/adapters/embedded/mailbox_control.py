"""Asking a running mailbox server what it did, and telling it to misbehave, over HTTP."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.adapters.embedded.mailbox_server import MailboxServer
from sluice.adapters.embedded.ports import PortTaken
from sluice.domain.errors import RuleError


async def serve_control(server: MailboxServer, host: str, port: int) -> web.AppRunner:
    """Serve ``GET /healthz``, ``GET /stats``, ``GET`` and ``PUT /behaviours`` (a JSON array of :class:`Behaviour`).

    Returns the runner; its ``cleanup()`` ends it. Raises :class:`PortTaken`.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def stats(_: web.Request) -> web.Response:
        return _json(server.stats)

    async def show(_: web.Request) -> web.Response:
        return _json(server.behaviours)

    async def replace(request: web.Request) -> web.Response:
        try:
            server.behaviours = msgspec.json.decode(await request.read(), type=tuple[Behaviour, ...])
        except (msgspec.DecodeError, RuleError) as error:
            return web.Response(status=400, text=f"{error}\n")
        return _json(server.behaviours)

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", health),
            web.get("/stats", stats),
            web.get("/behaviours", show),
            web.put("/behaviours", replace),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortTaken(port, "the mailbox's control") from error
    return runner


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
