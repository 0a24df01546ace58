"""The resolver port without DNS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from sluice.ports.resolver import LookupFailed, MxAnswer, MxHosts, NoSuchDomain

TTL = 300.0


class MemoryResolver:
    """Answers from two tables, which may be changed while it is in use.

    ``domains`` holds what :meth:`mx` answers; a domain that is only in ``hosts`` is its own implicit MX, any other does
    not exist. ``hosts`` holds what :meth:`addresses` answers, ``texts`` what :meth:`txt` does.
    """

    def __init__(
        self,
        domains: Mapping[str, MxAnswer] | None = None,
        hosts: Mapping[str, tuple[str, ...] | LookupFailed] | None = None,
        texts: Mapping[str, tuple[str, ...] | LookupFailed] | None = None,
    ) -> None:
        self.domains = dict(domains or {})
        self.hosts = dict(hosts or {})
        self.texts = dict(texts or {})

    async def mx(self, domain: str) -> MxAnswer:
        """As :meth:`sluice.ports.resolver.Resolver.mx`."""
        answer = self.domains.get(domain)
        if answer is not None:
            return answer
        found = self.hosts.get(domain, ())
        if isinstance(found, LookupFailed):
            return found
        return MxHosts(((0, domain),), TTL, implicit=True) if found else NoSuchDomain(TTL)

    async def addresses(self, host: str) -> tuple[str, ...] | LookupFailed:
        """As :meth:`sluice.ports.resolver.Resolver.addresses`."""
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            return self.hosts.get(host, ())

    async def txt(self, name: str) -> tuple[str, ...] | LookupFailed:
        """As :meth:`sluice.ports.resolver.Texts.txt`."""
        return self.texts.get(name, ())

    async def close(self) -> None:
        """Nothing to close."""
