"""The doctor's look at this machine: rules, routes, name servers, disk, certificates."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sluice.adapters.system.certificates import valid_until
from sluice.commands.findings import Finding, doubtful, guarded, ok, wrong
from sluice.domain.rotation import DAY
from sluice.domain.routing import MxRoute, RelayRoute, StaticRoute
from sluice.ports.resolver import LookupFailed
from sluice.runtime import wiring
from sluice.runtime.config import Settings
from sluice.runtime.console_rules import mail_hosts
from sluice.runtime.renewals import OWN, certificate_files

_SCARCE, _FULL = 0.10, 0.02
_CONNECT_S = 3.0
_ENDS_SOON_DAYS = 21
"""As the alert."""


def look_at_machine(settings: Settings, domain: str) -> Iterator[Finding]:
    """Findings about rules, routes, DNS (asked for the MX of ``domain``), disk and certificates."""
    yield from guarded("rules", "correct the file, or unset SLUICE_RULES_DIR", lambda: _rules(settings))
    yield from guarded("routes", "correct SLUICE_ROUTES", lambda: _routes(settings))
    yield from guarded("DNS", "correct SLUICE_DNS_SERVERS", lambda: _dns(settings, domain))
    yield _disk(settings)
    # Those that we present are looked at together with the server that they are for.
    trusted = {use: path for use, path in certificate_files(settings).items() if use not in OWN}
    for use, path in trusted.items():
        yield from guarded(use, "put the certificates there, in PEM", partial(_certificate, use, path))


def _certificate(use: str, path: Path) -> Iterator[Finding]:
    end = valid_until(path, time.time())
    left = (end - time.time()) / DAY
    when = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    remedy = "put its authority's new certificate there beside the old one, then restart the services"
    if left < 0:
        yield wrong(use, f"all certificates in {path} are over, the last since {when}", remedy)
    elif left < _ENDS_SOON_DAYS:
        yield doubtful(use, f"a certificate in {path} ends in {left:.0f} days, on {when}", remedy)
    else:
        yield ok(use, f"certificates in {path} are valid until {when} at least")


def _rules(settings: Settings) -> Iterator[Finding]:
    version = wiring.rules(settings).version
    yield ok("rules", f"{f'those in {settings.rules_dir}' if settings.rules_dir else 'the built-in ones'}: {version}")


def _routes(settings: Settings) -> Iterator[Finding]:
    routes = wiring.routes(settings).routes
    shown = ", ".join(f"{name} to {_name(route)}" for name, route in routes.items()) or "all by MX"
    yield ok("routes", shown)
    for route in dict.fromkeys(routes.values()):
        if isinstance(route, StaticRoute | RelayRoute):
            yield _connects(route.host, route.port)


def _name(route: MxRoute | StaticRoute | RelayRoute) -> str:
    return "their MX" if isinstance(route, MxRoute) else f"{route.host}:{route.port}"


def _connects(host: str, port: int) -> Finding:
    async def dial() -> None:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()

    try:
        asyncio.run(dial())
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        return wrong(
            "route", f"{host}:{port} cannot be reached: {reason}", "start that server, or change SLUICE_ROUTES"
        )
    return ok("route", f"{host}:{port} answers")


def _dns(settings: Settings, domain: str) -> Iterator[Finding]:
    routes = wiring.routes(settings).routes
    fixed = bool(routes) and "*" in routes and not any(isinstance(route, MxRoute) for route in routes.values())
    answer = mail_hosts(settings, domain)
    servers = settings.dns_servers or "the system's servers"
    if not isinstance(answer, LookupFailed):
        yield ok("DNS", f"{servers} answered for {domain}")
    elif fixed:
        yield doubtful(
            "DNS", f"{servers} gave no answer for {domain}: {answer.reason}", "not needed: all routes are fixed"
        )
    else:
        remedy = "set SLUICE_DNS_SERVERS to servers that answer, or look at the network"
        yield wrong("DNS", f"{servers} gave no answer for {domain}: {answer.reason}", remedy)


def _disk(settings: Settings) -> Finding:
    folder = settings.dkim_keys_dir or Path.cwd()
    usage = shutil.disk_usage(folder)
    share, shown = usage.free / usage.total, f"{usage.free / 2**30:.1f} GiB ({usage.free / usage.total:.0%}) free"
    if share < _FULL:
        return wrong("disk", f"{shown} on the disk of {folder}", "make room: embedded parts stop when it is full")
    if share < _SCARCE:
        return doubtful("disk", f"{shown} on the disk of {folder}", "make room soon")
    return ok("disk", f"{shown} on the disk of {folder}")
