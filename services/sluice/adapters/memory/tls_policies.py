"""What domains publish about protection, without DNS or HTTPS."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.domain.mta_sts import StsFailure, StsPolicy
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import DaneHosts

TTL = 300.0


class MemoryStsPolicies:
    """A :class:`sluice.ports.tls_policies.StsPolicies` from a table, which may be changed while it is in use."""

    def __init__(self, policies: Mapping[str, StsPolicy] | None = None) -> None:
        self.policies = dict(policies or {})
        self.failures: dict[str, StsFailure] = {}

    async def policy(self, domain: str) -> StsPolicy | None:
        """As the port says."""
        found = self.policies.get(domain)
        return None if found is None or found.mode == "none" else found

    def failure(self, domain: str) -> StsFailure | None:
        """As the port says."""
        return self.failures.get(domain)

    async def close(self) -> None:
        """Nothing to close."""


class MemoryDaneRecords:
    """A :class:`sluice.ports.tls_policies.DaneRecords` from a table; domains that are not in it are not signed."""

    def __init__(self, domains: Mapping[str, DaneHosts | LookupFailed] | None = None) -> None:
        self.domains = dict(domains or {})

    async def hosts(self, domain: str) -> DaneHosts | LookupFailed:
        """As the port says."""
        return self.domains.get(domain, DaneHosts({}, TTL))

    async def close(self) -> None:
        """Nothing to close."""
