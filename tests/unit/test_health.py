"""``/healthz`` and ``/readyz``."""

from __future__ import annotations

import time

import aiohttp
import pytest

from sluice.adapters.telemetry.health import HealthServer
from sluice.ports.health import Health
from sluice.runtime.stall import stalled


@pytest.mark.parametrize(
    ("health", "live", "ready"),
    [
        (Health(True, True), 200, 200),
        (Health(True, False), 200, 503),
        (Health(False, True, "stuck"), 503, 503),
    ],
)
async def test_what_the_service_says_is_what_is_answered(health: Health, live: int, ready: int) -> None:
    """A process that is not live is not ready either."""
    server = HealthServer(lambda: health, "127.0.0.1", 0)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            async with session.get("/healthz") as answer:
                assert answer.status == live
                assert (await answer.json())["reason"] == health.reason
            async with session.get("/readyz") as answer:
                assert answer.status == ready
    finally:
        await server.stop()


def test_a_service_is_stalled_when_work_is_left_and_nothing_moves() -> None:
    """Idle is not stalled, and neither is slow."""
    long_ago = time.monotonic() - 200
    assert "200 s" in stalled(3, long_ago, 120.0)
    assert stalled(0, long_ago, 120.0) == ""
    assert stalled(3, time.monotonic(), 120.0) == ""
