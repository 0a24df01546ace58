"""What a recipient domain publishes about the protection of its mail, from MTA-STS and DANE together."""

from __future__ import annotations

import asyncio

from sluice.domain.mta_sts import StsPolicy
from sluice.domain.routing import lookup_failed
from sluice.domain.smtp import Broken
from sluice.domain.tls_policy import Protection
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import DaneHosts, DaneRecords, StsPolicies

UNASKED_TTL = 3600.0


class Protections:
    """Asks whichever of the two is given."""

    def __init__(self, sts: StsPolicies | None = None, dane: DaneRecords | None = None) -> None:
        self._sts = sts
        self._dane = dane

    async def find(self, domain: str) -> tuple[Protection, float] | Broken:
        """What ``domain`` publishes, and for how many seconds that can be relied on; :class:`Broken` when mail must
        wait because its DNSSEC does not hold (RFC 7672 section 2.1.1)."""
        sts, dane = await asyncio.gather(self._policy(domain), self._hosts(domain))
        if isinstance(dane, LookupFailed):
            return lookup_failed(f"DNSSEC: {dane.reason}")
        failure = self._sts.failure(domain) if self._sts and sts is None else None
        return Protection(domain, sts, dane.hosts, failure), dane.ttl

    async def close(self) -> None:
        """Give up what is under way."""
        if self._sts:
            await self._sts.close()
        if self._dane:
            await self._dane.close()

    async def _policy(self, domain: str) -> StsPolicy | None:
        return await self._sts.policy(domain) if self._sts else None

    async def _hosts(self, domain: str) -> DaneHosts | LookupFailed:
        return await self._dane.hosts(domain) if self._dane else DaneHosts({}, UNASKED_TTL)
