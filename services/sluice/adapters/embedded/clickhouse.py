"""ClickHouse on this machine: ``python -m sluice.adapters.embedded.clickhouse --host 127.0.0.1 --port N --data DIR``.

The engine is ClickHouse's own (chDB), in one process, behind ClickHouse's HTTP interface: clickhouse-connect, curl and
BI tools connect to it as to a server. There is no password, so only loopback addresses are bound.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sys
import time
from pathlib import Path

import structlog
from aiohttp import web

from sluice.adapters.embedded.clickhouse_engine import Engine, EngineError
from sluice.adapters.embedded.clickhouse_http import Gateway
from sluice.adapters.embedded.niceness import step_back

log = structlog.get_logger(__name__)
NICENESS = 5
"""A batch of outcomes takes a processor for tenths of a second, a merge both. Mail on the same machine waits for a
processor at each step, and goes before them; what is kept here is only told later."""


async def serve(host: str, port: int, data: Path, *, stop: asyncio.Event | None = None) -> int:
    """Serve until ``stop`` is set, or SIGTERM or SIGINT; returns the exit code.

    The port is bound at once and answers 503 ``starting`` until the engine is open, which takes tens of seconds the
    first time after an installation. A port that is taken, or a folder that another process has open, is exit code 1.
    """
    loop = asyncio.get_running_loop()
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = Engine(data)
    gateway = Gateway(engine)
    runner = web.AppRunner(
        gateway.application(), access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=10.0
    )
    await runner.setup()
    code = 0
    try:
        await web.TCPSite(runner, host, port, reuse_address=True).start()
        log.info("clickhouse starting", address=f"{host}:{port}", data=str(data))
        began = time.monotonic()
        version = await gateway.call(engine.open)
        gateway.ready = True
        log.info("clickhouse ready", version=version, seconds=round(time.monotonic() - began, 1))
        await stop.wait()
    except OSError as error:
        log.error(
            "clickhouse cannot listen", address=f"{host}:{port}", reason=error.strerror, hint="choose another port"
        )
        code = 1
    except EngineError as error:
        log.error("clickhouse cannot open its folder", data=str(data), reason=str(error)[:500])
        code = 1
    finally:
        await asyncio.to_thread(gateway.interrupt)
        await runner.cleanup()
        await asyncio.to_thread(gateway.stop)
        await asyncio.to_thread(engine.close)
        log.info("clickhouse stopped")
    return code


def main(arguments: list[str] | None = None) -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="sluice.adapters.embedded.clickhouse", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to bind")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps the tables")
    chosen = parser.parse_args(arguments)
    host = "127.0.0.1" if chosen.host == "localhost" else chosen.host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        parser.error(f"--host {chosen.host}: there is no password, so only a loopback address can be bound")
    step_back(NICENESS)
    return asyncio.run(serve(host, chosen.port, chosen.data))


if __name__ == "__main__":
    sys.exit(main())
