"""What ``sluice tls-reports`` is built on; loaded by it only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sluice.domain.addresses import parse_address
from sluice.domain.errors import Refused, RuleError, SluiceError
from sluice.domain.tls_report import MEDIA_TYPE, Submitter
from sluice.domain.tlsrpt_record import Endpoint, endpoints
from sluice.domain.topics import TENANTS
from sluice.ports.resolver import LookupFailed
from sluice.runtime.config import Settings
from sluice.runtime.console import catalogue, clickhouse

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.tls_reports import TlsReports
    from sluice.adapters.dns.resolver import DnsResolver

_AT_ONCE = 20


@contextmanager
def store(settings: Settings) -> Iterator[TlsReports]:
    """Sessions that were counted, and reports that were sent."""
    from sluice.adapters.clickhouse.tls_reports import TlsReports

    with clickhouse(settings) as connection:
        yield TlsReports(connection)


def submitter(settings: Settings) -> tuple[Submitter, str]:
    """Who reports, and the address that reports come from.

    Raises :class:`RuleError` for settings that are missing, :class:`SluiceError` for a tenant that cannot send them.
    """
    if not settings.tls_report_tenant:
        raise RuleError("no tenant sends reports of TLS: set SLUICE_TLS_REPORT_TENANT, see docs/tls-reports.md")
    with catalogue(settings, (TENANTS,)) as known:
        tenant = known.tenants.get(settings.tls_report_tenant)
    if tenant is None or not tenant.active or not tenant.tls_reports:
        raise SluiceError(
            f"tenant {settings.tls_report_tenant} may not send reports of TLS: push it with tls_reports set to true"
        )
    if not tenant.signing:
        raise SluiceError(f"tenant {tenant.tenant_id} signs with no DKIM key: reports that are not signed are not read")
    sender = settings.tls_report_from or (tenant.from_.email if tenant.from_ else "")
    try:
        domain = parse_address(sender, "SLUICE_TLS_REPORT_FROM").domain_ascii
    except Refused as error:
        raise RuleError(f"SLUICE_TLS_REPORT_FROM: {error.reason}, and the tenant has no address of its own") from error
    name = settings.tls_report_organisation or tenant.name or domain
    return Submitter(name, settings.tls_report_contact or sender, domain), sender


def places(settings: Settings, domains: Sequence[str]) -> Mapping[str, Sequence[Endpoint] | LookupFailed]:
    """Where each domain wants its reports, by DNS; nowhere for those that ask for none."""
    return asyncio.run(_places(settings, domains))


def post(settings: Settings, url: str, report: bytes) -> None:
    """Hand a compressed report to a URL; raises :class:`SluiceError` unless the server took it."""
    asyncio.run(_post(settings, url, report))


async def _places(settings: Settings, domains: Sequence[str]) -> dict[str, Sequence[Endpoint] | LookupFailed]:
    resolver = _resolver(settings)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(domain: str) -> Sequence[Endpoint] | LookupFailed:
        async with gate:
            texts = await resolver.txt(f"_smtp._tls.{domain}")
        return texts if isinstance(texts, LookupFailed) else endpoints(texts)

    try:
        found = await asyncio.gather(*(look(domain) for domain in domains))
    finally:
        await resolver.close()
    return dict(zip(domains, found, strict=True))


async def _post(settings: Settings, url: str, report: bytes) -> None:
    from sluice.adapters.mtasts.fetch import PublicAddresses
    from sluice.adapters.tlsrpt import ReportPoster

    resolver = _resolver(settings)
    try:
        await ReportPoster(PublicAddresses(resolver, private=False)).post(url, report, MEDIA_TYPE)
    finally:
        await resolver.close()


def _resolver(settings: Settings) -> DnsResolver:
    from sluice.adapters.dns.resolver import DnsResolver

    return DnsResolver([server.strip() for server in settings.dns_servers.split(",") if server.strip()])
