"""What commands ask of rules, routes and DNS: apart from the rest, because it needs no Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

from sluice.domain.egress import DEFAULT, Egress, Egresses
from sluice.domain.errors import RuleError
from sluice.domain.routing import RouteTable
from sluice.domain.rules import Rules
from sluice.domain.shaping import Rate
from sluice.ports.resolver import LookupFailed, MxAnswer
from sluice.runtime.config import Settings

LOOKUP_S = 8.0
"""Seconds that DNS may take."""


def rules(settings: Settings) -> Rules:
    """Sites, bounces and retries; raises :class:`RuleError` with everything wrong in the files."""
    from sluice.adapters.rules.loader import load_rules

    return load_rules(settings.rules_dir)


def rule_layers(settings: Settings, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The files that make up a rule file, the weakest first: where each lies, and its tables."""
    from sluice.adapters.rules.reading import Problems, read_toml

    problems = Problems()
    layers = [(f"built-in {name}", read_toml(name, None, problems))]
    if settings.rules_dir is not None:
        layers.append((str(settings.rules_dir / name), read_toml(name, settings.rules_dir, problems)))
    problems.raise_all()
    return layers


def routes(settings: Settings) -> RouteTable:
    """Where domains go; raises :class:`RuleError`."""
    return RouteTable.parse(settings.routes)


def egresses(settings: Settings) -> Egresses:
    """Where mail may leave from; raises :class:`RuleError`."""
    if settings.egresses:
        try:
            return Egresses.parse(settings.egresses, settings.ehlo_name)
        except RuleError as error:
            raise RuleError(f"SLUICE_EGRESSES: {error}") from error
    source = settings.source_address
    rate = Rate.parse(settings.egress_rate) if settings.egress_rate else None
    return Egresses([Egress(source or DEFAULT, settings.ehlo_name, (source,) if source else (), rate=rate)])


def mail_hosts(settings: Settings, domain: str) -> MxAnswer:
    """Who takes mail for ``domain`` (A-label form), asked now; raises :class:`RuleError` for servers that are none."""
    return asyncio.run(_mail_hosts(settings, domain))


async def _mail_hosts(settings: Settings, domain: str) -> MxAnswer:
    from sluice.adapters.dns.resolver import DnsResolver

    resolver = DnsResolver([server.strip() for server in settings.dns_servers.split(",") if server.strip()])
    try:
        async with asyncio.timeout(LOOKUP_S):
            return await resolver.mx(domain)
    except TimeoutError:
        return LookupFailed("timeout")
    except ValueError as error:
        raise RuleError(f"SLUICE_DNS_SERVERS: {error}") from error
    finally:
        await resolver.close()
