"""Where mail to a domain goes: its route, its MX hosts, and the site that they make it part of."""

from __future__ import annotations

from typing import Literal

import msgspec

from sluice.domain.routing import MxRoute, RelayRoute, Route
from sluice.domain.site import Membership, SiteRules
from sluice.ports.resolver import LookupFailed, MxAnswer, MxHosts, NullMx
from sluice.runtime import console_rules
from sluice.runtime.config import Settings


class RouteView(msgspec.Struct, frozen=True):
    """``mx``, or a server of our own choice; ``tls`` None leaves the policy to the site."""

    kind: Literal["mx", "static", "relay"]
    host: str | None = None
    port: int | None = None
    tls: str | None = None


class MxHost(msgspec.Struct, frozen=True):
    """A host that takes mail, the lowest preference first."""

    preference: int
    host: str


class MxView(msgspec.Struct, frozen=True):
    """What DNS said; ``implicit`` when the domain has no MX record and its own address is used."""

    answer: Literal["hosts", "null_mx", "no_such_domain", "failed", "not_asked"]
    hosts: tuple[MxHost, ...] = ()
    implicit: bool = False


class Destination(msgspec.Struct, frozen=True):
    """``membership`` is None when only DNS could tell the site, and was not asked."""

    domain: str
    route: RouteView
    mx: MxView
    membership: Membership | None
    notes: list[str] = []


def find_destination(settings: Settings, rules: SiteRules, domain: str, *, offline: bool) -> Destination:
    """Where mail to ``domain`` (A-label form) goes. Asks DNS unless ``offline``, or the domain has a fixed route."""
    route = console_rules.routes(settings).route_for(domain)
    if not isinstance(route, MxRoute):
        return Destination(domain, _route(route), MxView("not_asked"), rules.explain(domain))
    if offline:
        found = rules.explain(domain)
        note = "its MX hosts were not asked for (--offline), and only they tell its site: the limits are the default's"
        known = found.by == "domain"
        return Destination(
            domain, _route(route), MxView("not_asked"), found if known else None, [] if known else [note]
        )
    answer = console_rules.mail_hosts(settings, domain)
    hosts = [host for _, host in answer.hosts] if isinstance(answer, MxHosts) else None
    return Destination(domain, _route(route), _mx(answer), rules.explain(domain, hosts), _doubts(answer))


def _route(route: Route) -> RouteView:
    if isinstance(route, MxRoute):
        return RouteView("mx")
    return RouteView("relay" if isinstance(route, RelayRoute) else "static", route.host, route.port, route.tls)


def _mx(answer: MxAnswer) -> MxView:
    if isinstance(answer, MxHosts):
        return MxView("hosts", tuple(MxHost(*pair) for pair in answer.hosts), answer.implicit)
    if isinstance(answer, LookupFailed):
        return MxView("failed")
    return MxView("null_mx" if isinstance(answer, NullMx) else "no_such_domain")


def _doubts(answer: MxAnswer) -> list[str]:
    """What an answer without hosts means for mail."""
    if isinstance(answer, MxHosts):
        return []
    if isinstance(answer, LookupFailed):
        waits = "mail waits as if the domain were a site of its own, unless a rule names it, until its hosts are known"
        return [f"DNS gave no answer ({answer.reason}): {waits}"]
    if isinstance(answer, NullMx):
        return ["the domain says that it takes no mail (null MX, RFC 7505): mail to it bounces"]
    return ["the domain does not exist, or has neither MX nor address records: mail to it bounces"]
