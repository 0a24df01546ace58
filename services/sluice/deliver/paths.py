"""From a recipient domain to the servers that take its mail."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from sluice.deliver.protections import Protections
from sluice.domain.egress import Egress
from sluice.domain.routing import (
    NO_ADDRESS,
    NO_SUCH_DOMAIN,
    NULL_MX,
    MxRoute,
    RelayRoute,
    Route,
    RouteTable,
    StaticRoute,
    interleaved,
    lookup_failed,
    mx_targets,
    usable_addresses,
)
from sluice.domain.site import Site
from sluice.domain.smtp import Broken, TlsPolicy
from sluice.domain.tls_policy import Guard, Protection, guard, path_key
from sluice.ports.clock import Clock
from sluice.ports.mailer import Hop
from sluice.ports.resolver import LookupFailed, MxHosts, NullMx, Resolver

CACHED = 50_000
"""Domains whose path is remembered."""
FIXED_TTL = 3600.0
CONNECT_WITHIN = 10.0
"""Seconds for an address that is not the last to try. Enough for a call to be repeated three times, after 1, 3 and 7 s
(RFC 6298), and not the minute that a silent family or host would cost each new connection."""


class Path(msgspec.Struct, frozen=True):
    """The way to a domain's servers: ``key`` is equal for domains that the same servers take mail for, held to the same
    protection, so that one's mail may go over connections made for the other."""

    key: str
    route: Route
    hosts: tuple[tuple[int, str], ...] = ()
    protection: Protection = Protection("")
    despite_tls: bool = False
    """Whether mail goes on without TLS where there is none, whatever the domain or the site asks for."""


class Paths:
    """Finds paths, and the hops of one."""

    def __init__(
        self,
        routes: RouteTable,
        resolver: Resolver,
        clock: Clock,
        own_names: Collection[str],
        protections: Protections | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        private_addresses: bool = False,
    ) -> None:
        """Without ``protections``, what domains publish about TLS is not asked for.

        ``secrets`` maps a route's ``password_ref`` to the password; with ``private_addresses`` MX hosts on private or
        loopback addresses may be connected to.
        """
        self._routes = routes
        self._resolver = resolver
        self._clock = clock
        self._own_names = own_names
        self._secrets = dict(secrets or {})
        self._private_addresses = private_addresses
        self._protections = protections or Protections()
        self._known: dict[str, tuple[float, Path | Broken]] = {}

    def known(self, domain: str, *, despite_tls: bool = False) -> Path | Broken | None:
        """The path, when it can be told without asking DNS."""
        if despite_tls:
            known = self.known(domain)
            return _despite_tls(known) if isinstance(known, Path) else known
        found = self._known.get(domain)
        if found is not None and found[0] > self._clock.now():
            return found[1]
        route = self._routes.route_for(domain)
        if isinstance(route, MxRoute):
            return None
        return self._remember(domain, Path(f"{route.host}:{route.port}", route), FIXED_TTL)

    async def find(self, domain: str, *, despite_tls: bool = False) -> Path | Broken:
        """The path to ``domain`` (A-label form), or why it has none; ``despite_tls`` as in :class:`Path`."""
        answer = await self._resolver.mx(domain)
        if isinstance(answer, MxHosts):
            if despite_tls:
                hosts = (host for _, host in answer.hosts)
                return _despite_tls(Path(path_key(hosts, Protection("")), MxRoute(), answer.hosts))
            found = await self._protections.find(domain)
            if isinstance(found, Broken):
                return found
            protection, ttl = found
            key = path_key((host for _, host in answer.hosts), protection)
            return self._remember(domain, Path(key, MxRoute(), answer.hosts, protection), min(answer.ttl, ttl))
        if isinstance(answer, LookupFailed):
            return lookup_failed(answer.reason)
        return self._remember(domain, NULL_MX if isinstance(answer, NullMx) else NO_SUCH_DOMAIN, answer.ttl)

    async def hops(self, path: Path, site: Site, egress: Egress, seed: str) -> tuple[Hop, ...] | Broken:
        """Servers to try from ``egress``, in order; ``seed`` shuffles those of equal preference."""
        if not isinstance(path.route, MxRoute):
            return self._fixed(path.route, _least(site.tls) if path.despite_tls else site.tls, egress)
        path = await self._fresh(path)
        targets = mx_targets(path.hosts, own_names=self._own_names, seed=seed)
        if isinstance(targets, Broken):
            return targets
        hops: list[Hop] = []
        failure = NO_ADDRESS
        for host in targets:
            guarded = Guard(_least(site.tls)) if path.despite_tls else guard(site.tls, host, path.protection)
            if isinstance(guarded, Broken):
                failure = guarded
                continue
            answer = await self._resolver.addresses(host)
            if isinstance(answer, LookupFailed):
                failure = lookup_failed(answer.reason)
                continue
            for address in interleaved(usable_addresses(answer, private=self._private_addresses)):
                source = egress.source_for(address)
                if isinstance(source, Broken):
                    failure = source
                    continue
                hops.append(
                    Hop(
                        host=host,
                        address=address,
                        ehlo=egress.ehlo,
                        source_address=source,
                        tls=guarded.tls,
                        dane=guarded.dane,
                        tls_testing=guarded.testing,
                        tls_failure=guarded.failure,
                    )
                )
        return _hurried(hops) or failure

    def _fixed(self, route: StaticRoute | RelayRoute, tls: TlsPolicy, egress: Egress) -> tuple[Hop, ...]:
        """The server of a route, from each of the egress's addresses in turn: one may lack the other's family."""
        relay = route if isinstance(route, RelayRoute) else None
        hop = Hop(
            host=route.host,
            port=route.port,
            ehlo=egress.ehlo,
            tls=route.tls or tls,
            implicit_tls=route.implicit_tls,
            username=relay.username if relay else None,
            password=self._secrets.get(relay.password_ref) if relay else None,
        )
        sources: tuple[str | None, ...] = egress.addresses or (None,)
        return _hurried([msgspec.structs.replace(hop, source_address=source) for source in sources])

    async def _fresh(self, path: Path) -> Path:
        """The same path as it is known now: a sender agent may use one for longer than its TLSA records hold."""
        domain = path.protection.domain
        if not domain:
            return path
        current = self.known(domain) or await self.find(domain)
        return current if isinstance(current, Path) and current.key == path.key else path

    def _remember(self, domain: str, path: Path | Broken, ttl: float) -> Path | Broken:
        if len(self._known) >= CACHED:
            del self._known[next(iter(self._known))]
        self._known[domain] = (self._clock.now() + ttl, path)
        return path


def _despite_tls(path: Path) -> Path:
    """The same without what is published, over connections of its own: no mail that asks for protection goes there."""
    return Path(f"{path.key}=despite-tls", path.route, path.hosts, despite_tls=True)


def _least(rule: TlsPolicy) -> TlsPolicy:
    return "none" if rule == "none" else "opportunistic"


def _hurried(hops: list[Hop]) -> tuple[Hop, ...]:
    """The same, with little time to connect for all but the last."""
    return (*(msgspec.structs.replace(hop, connect_within=CONNECT_WITHIN) for hop in hops[:-1]), *hops[-1:])
