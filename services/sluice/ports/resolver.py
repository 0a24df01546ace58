"""Looking mail domains up."""

from typing import Protocol

import msgspec


class MxHosts(msgspec.Struct, frozen=True):
    """Hosts that take mail, as (preference, host), lowest preference first; ``ttl`` in seconds.

    ``implicit`` is True when there was no MX record and the domain's own address is used (RFC 5321 section 5.1).
    """

    hosts: tuple[tuple[int, str], ...]
    ttl: float
    implicit: bool = False


class NullMx(msgspec.Struct, frozen=True):
    """The domain says that it takes no mail (RFC 7505)."""

    ttl: float


class NoSuchDomain(msgspec.Struct, frozen=True):
    """The domain does not exist, or has neither MX nor address records."""

    ttl: float


class LookupFailed(msgspec.Struct, frozen=True):
    """The answer could not be had now (SERVFAIL, timeout); ask again later."""

    reason: str


MxAnswer = MxHosts | NullMx | NoSuchDomain | LookupFailed


class Resolver(Protocol):
    """DNS, as mail needs it."""

    async def mx(self, domain: str) -> MxAnswer:
        """Who takes mail for ``domain`` (A-label form, lower case). Never raises for what DNS answers."""
        ...

    async def addresses(self, host: str) -> tuple[str, ...] | LookupFailed:
        """IPv4 and IPv6 addresses of ``host``; empty when it has none."""
        ...


class Texts(Protocol):
    """DNS, as MTA-STS needs it besides."""

    async def txt(self, name: str) -> tuple[str, ...] | LookupFailed:
        """The TXT records at ``name``, the strings of each put together; empty when there are none."""
        ...

    async def addresses(self, host: str) -> tuple[str, ...] | LookupFailed:
        """As :meth:`Resolver.addresses`."""
        ...
