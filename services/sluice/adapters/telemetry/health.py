"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from sluice.ports.health import Health


class HealthServer:
    """Answers 200 or 503 with a JSON body that says why. ``port`` 0 chooses a free one.

    ``metrics`` gives Prometheus' text; without it there is no ``/metrics``.
    """

    def __init__(
        self, health: Callable[[], Health], host: str, port: int, metrics: Callable[[], Awaitable[bytes]] | None = None
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._host = host
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises :class:`OSError` when the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._live)
        app.router.add_get("/readyz", self._ready)
        if self._metrics is not None:
            app.router.add_get("/metrics", self._tell)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        health = self._health()
        return _answer(health.live, health)

    async def _ready(self, _: web.Request) -> web.Response:
        health = self._health()
        return _answer(health.ready and health.live, health)

    async def _tell(self, _: web.Request) -> web.Response:
        text = await self._metrics() if self._metrics is not None else b""
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(good: bool, health: Health) -> web.Response:
    body = orjson.dumps({"live": health.live, "ready": health.ready, "reason": health.reason, **health.facts})
    return web.Response(body=body, status=200 if good else 503, content_type="application/json")
