"""What recipient domains publish about the protection of their mail."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from sluice.domain.dane import DaneFailed, DaneHost
from sluice.domain.mta_sts import StsFailure, StsPolicy
from sluice.ports.resolver import LookupFailed


class DaneHosts(msgspec.Struct, frozen=True):
    """The hosts of a signed MX set, as :class:`sluice.domain.tls_policy.Protection` has them; ``ttl`` in seconds."""

    hosts: Mapping[str, DaneHost | DaneFailed | None]
    ttl: float


class StsPolicies(Protocol):
    """MTA-STS."""

    async def policy(self, domain: str) -> StsPolicy | None:
        """The policy in force for ``domain`` (A-label form, lower case); None when there is none to be had.

        May take as long as fetching one. Never raises for what the domain's servers do.
        """
        ...

    def failure(self, domain: str) -> StsFailure | None:
        """Why :meth:`policy` last found none though the domain announces one; None when it announces none."""
        ...

    async def close(self) -> None:
        """Give up what is under way."""
        ...


class DaneRecords(Protocol):
    """TLSA records, as a validating resolver vouches for them."""

    async def hosts(self, domain: str) -> DaneHosts | LookupFailed:
        """The hosts that take mail for ``domain`` (A-label form, lower case); none when DNSSEC vouches for none.

        Never raises for what DNS answers. :class:`LookupFailed`, also for signatures that are wrong: mail must wait.
        """
        ...

    async def close(self) -> None:
        """Give up what is under way."""
        ...
