"""Receiving sites: which one a domain belongs to, what it tolerates, and the lanes its mail takes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from sluice.domain.shaping import Rate
from sluice.domain.smtp import SettableTls

SITES_KEPT = 100_000
"""Answers of :meth:`SiteRules.site_for` kept in memory; more domains than that are worked out anew."""


class Share(msgspec.Struct, frozen=True):
    """What one lane may use of its site's allowance."""

    rate: Rate | None
    connections: int
    connect_rate: Rate | None


class EgressShare(msgspec.Struct, frozen=True):
    """What one lane may use through one egress; None is all that the lane may."""

    rate: Rate | None
    connections: int | None


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A receiving system and what it tolerates from all of Sluice together.

    ``rate`` in mails (None is unlimited), ``connections`` open at once, ``mails_per_connection`` before a polite QUIT,
    ``idle`` seconds that an unused connection is kept, ``connect_rate`` in new connections. After ``failed_connects``
    failures in a row nothing is tried for ``pause`` seconds. ``lanes`` never exceeds ``connections``.

    ``egress`` names the egress, or pool of them, that its mail leaves from (None for any). ``egress_rate`` and
    ``egress_connections`` are what each single egress may use of the whole: receivers count by source address.
    """

    name: str
    lanes: int = 1
    rate: Rate | None = None
    connections: int = 10
    mails_per_connection: int = 100
    idle: float = 60.0
    tls: SettableTls = "opportunistic"
    connect_rate: Rate | None = None
    failed_connects: int = 10
    pause: float = 300.0
    egress: str | None = None
    egress_rate: Rate | None = None
    egress_connections: int | None = None

    def share(self, lane: int) -> Share:
        """The allowance of lane number ``lane``; all lanes' together are the site's."""
        return Share(
            self.rate and self.rate.shared(self.lanes),
            self._part(self.connections, lane),
            self.connect_rate and self.connect_rate.shared(self.lanes),
        )

    def egress_share(self, lane: int) -> EgressShare:
        """What lane number ``lane`` may use through any one egress."""
        connections = self.egress_connections
        return EgressShare(
            self.egress_rate and self.egress_rate.shared(self.lanes),
            None if connections is None else self._part(connections, lane),
        )

    def _part(self, whole: int, lane: int) -> int:
        each, rest = divmod(whole, self.lanes)
        return each + (1 if lane < rest else 0)


class Penalty(msgspec.Struct, frozen=True):
    """What is left to an egress whose reputation the site blames (``Verdict.slow_down``), in each lane, for ``lasts``
    seconds."""

    rate: Rate = Rate(1, 60.0, 1)
    connections: int = 1
    lasts: float = 5400.0

    def apply(self, share: Share) -> Share:
        """The lane's allowance while the penalty lasts."""
        slower = share.rate is None or share.rate.interval < self.rate.interval
        return Share(self.rate if slower else share.rate, min(share.connections, self.connections), share.connect_rate)


class SiteGroup(msgspec.Struct, frozen=True):
    """A site with a name of its own, and what belongs to it.

    ``domains`` are recipient domains (``*.example`` takes in every subdomain); ``mx`` are suffixes of MX host names at
    label borders (``google.com`` matches ``smtp.google.com``), of which every host of a domain must match one.
    """

    site: Site
    domains: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


class Membership(msgspec.Struct, frozen=True):
    """Which site a domain belongs to, and what decided: ``match``, a pattern of the rules or the name of a host.

    ``by`` is ``domain`` (the rules name it), ``mx`` (the rules name its MX hosts), ``rollup`` (by its MX set), or
    ``itself`` (nothing is known but the domain).
    """

    site: Site
    by: Literal["domain", "mx", "rollup", "itself"]
    match: str


class SiteRules:
    """Finds the site of a domain. Immutable; answers are remembered."""

    def __init__(self, default: Site, groups: Iterable[SiteGroup] = (), penalty: Penalty | None = None) -> None:
        """Groups that come first win. ``default`` gives the limits of every site without a group."""
        self.default = default
        self.groups = tuple(groups)
        self.penalty = penalty or Penalty()
        self._exact: dict[str, Site] = {}
        self._below: list[tuple[str, Site]] = []
        for group in self.groups:
            for domain in group.domains:
                if domain.startswith("*."):
                    self._below.append((domain[1:], group.site))
                else:
                    self._exact.setdefault(domain, group.site)
        self._named = {group.site.name: group.site for group in reversed(self.groups)}
        self._mx = [(tuple("." + suffix for suffix in group.mx), group.site) for group in self.groups if group.mx]
        self._site_for = lru_cache(SITES_KEPT)(self._find)
        self.named = lru_cache(SITES_KEPT)(self._by_name)
        """``named(name) -> Site``: the site called ``name``, as a mail's envelope carries it."""

    @property
    def all(self) -> tuple[Site, ...]:
        """The sites that the rules name, and the default."""
        return (*(group.site for group in self.groups), self.default)

    def site_for(self, domain: str, mx_hosts: Iterable[str] | None = None) -> Site:
        """The site of ``domain`` (A-label form, lower case), whose MX hosts are ``mx_hosts``.

        By the groups' domains first, then by the groups' MX suffixes. Any other domain rolls up by its MX set: the site
        is named after the alphabetically first host, whatever the preferences, so that domains with the same set
        are one site, and sets that share this machine share its limits. Without ``mx_hosts`` (None or empty: a
        static route) the site is named after the domain.
        """
        return self._site_for(domain, tuple(mx_hosts) if mx_hosts is not None else ())

    def _by_name(self, name: str) -> Site:
        return self._named.get(name) or msgspec.structs.replace(self.default, name=name)

    def explain(self, domain: str, mx_hosts: Iterable[str] | None = None) -> Membership:
        """As :meth:`site_for`, with the reason; nothing is remembered."""
        found = self._exact.get(domain)
        if found is not None:
            return Membership(found, "domain", domain)
        for suffix, site in self._below:
            if domain.endswith(suffix):
                return Membership(site, "domain", "*" + suffix)
        hosts = sorted({host.rstrip(".").lower() for host in mx_hosts or ()} - {""})
        if not hosts:
            return Membership(self._by_name(domain), "itself", domain)
        dotted = ["." + host for host in hosts]
        for suffixes, site in self._mx:
            if all(host.endswith(suffixes) for host in dotted):
                matched = [suffix[1:] for suffix in suffixes if any(host.endswith(suffix) for host in dotted)]
                return Membership(site, "mx", ", ".join(matched))
        return Membership(self._by_name(hosts[0]), "rollup", hosts[0])

    def _find(self, domain: str, mx_hosts: tuple[str, ...]) -> Site:
        return self.explain(domain, mx_hosts).site


def lane_name(site: str, number: int) -> str:
    """``site#number``."""
    return f"{site}#{number}"


def lane_for(site: Site, key: str) -> str:
    """The lane of the mail that ``key`` (its message id) names: the same one whenever and wherever it is asked."""
    if site.lanes == 1:
        return site.name + "#0"
    return lane_name(site.name, zlib.crc32(key.encode()) % site.lanes)


def lane_number(lane: str) -> tuple[str, int]:
    """Split a lane's name into its site's name and its number."""
    site, _, number = lane.rpartition("#")
    return site, int(number)


@lru_cache(SITES_KEPT)
def lane_partition(lane: str, partitions: int) -> int:
    """The partition a lane lives in: BLAKE2b of its site's name (8 bytes, big-endian) plus its number, modulo.

    The same in every process and release. Lanes of one site lie in neighbouring partitions, so no two
    share one while there are enough.
    """
    site, number = lane_number(lane)
    start = int.from_bytes(hashlib.blake2b(site.encode(), digest_size=8).digest(), "big")
    return (start + number) % partitions
