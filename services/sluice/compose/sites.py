"""Which site a recipient's domain belongs to, so that a mail goes to the partition of its lane."""

from __future__ import annotations

from sluice.domain.routing import MxRoute, RouteTable
from sluice.domain.site import Site, SiteRules
from sluice.ports.clock import Clock
from sluice.ports.resolver import MxHosts, Resolver

CACHED = 100_000
SOON = 60.0
"""Seconds after which a domain that could not be looked up is looked up again."""


class Sites:
    """Sites by domain, remembered for as long as DNS allows."""

    def __init__(self, rules: SiteRules, routes: RouteTable, resolver: Resolver, clock: Clock) -> None:
        self._rules = rules
        self._routes = routes
        self._resolver = resolver
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[str, ...] | None]] = {}
        """Until when, and by which MX hosts, a domain is known."""

    def follow(self, rules: SiteRules) -> None:
        """Other rules are in force."""
        self._rules = rules

    def known(self, domain: str) -> Site | None:
        """The site of ``domain`` (A-label form), when it can be told without asking DNS."""
        if not isinstance(self._routes.route_for(domain), MxRoute):
            return self._rules.site_for(domain)
        found = self._known.get(domain)
        if found is None or found[0] <= self._clock.now():
            return None
        return self._rules.site_for(domain, found[1])

    def settled(self, domain: str) -> Site:
        """The site of a domain that was found, even if DNS would have it asked again by now."""
        known = self.known(domain)
        if known is not None:
            return known
        found = self._known.get(domain)
        return self._rules.site_for(domain, found[1] if found is not None else None)

    async def find(self, domain: str) -> Site:
        """The site of ``domain``. One without a usable answer is a site of its own: deliver finds out what to do."""
        answer = await self._resolver.mx(domain)
        hosts = tuple(host for _, host in answer.hosts) if isinstance(answer, MxHosts) else None
        if len(self._known) >= CACHED:
            del self._known[next(iter(self._known))]
        self._known[domain] = (self._clock.now() + getattr(answer, "ttl", SOON), hosts)
        return self._rules.site_for(domain, hosts)
