"""``sites.toml`` → :class:`SiteRules`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluice.adapters.rules.reading import Problems, only, read_table, read_tables
from sluice.domain.shaping import Rate, parse_duration
from sluice.domain.site import Penalty, Site, SiteGroup, SiteRules
from sluice.domain.smtp import SettableTls

FILE = "sites.toml"
Count = Annotated[int, Meta(ge=1, le=100_000)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,253}$")]
Domain = Annotated[str, Meta(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$")]
Suffix = Annotated[str, Meta(pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*$")]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of [default], all optional."""

    rate: str | None = None
    connections: Count | None = None
    mails_per_connection: Count | None = None
    idle: str | None = None
    connect_rate: str | None = None
    failed_connects: Count | None = None
    pause: str | None = None
    tls: SettableTls | None = None
    lanes: Count | None = None
    egress: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._:-]{0,127}$")] | None = None
    egress_rate: str | None = None
    egress_connections: Count | None = None


class Listed(Limits, frozen=True, kw_only=True):
    """The keys of a [[site]]."""

    name: Name
    domains: tuple[Domain, ...] = ()
    mx: tuple[Suffix, ...] = ()


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of [penalty]."""

    rate: str | None = None
    connections: Count | None = None
    lasts: str | None = None


def build_sites(layers: list[dict[str, Any]], problems: Problems) -> SiteRules:
    """Put layers together, the strongest last: keys of [default] and [penalty] replace, sites come first."""
    default = Site(name="")
    penalty = Penalty()
    listed: dict[str, tuple[str, Listed]] = {}
    for tables in layers:
        only(tables, {"default", "penalty", "site"}, FILE, problems)
        limits = read_table(Limits, tables.get("default", {}), f"{FILE}: default", problems)
        if limits is not None:
            default = _limited(default, limits, f"{FILE}: default", problems)
        slow = read_table(Slow, tables.get("penalty", {}), f"{FILE}: penalty", problems)
        if slow is not None:
            penalty = _penalty(penalty, slow, problems)
        own = read_tables(Listed, tables.get("site", []), f"{FILE}: site", problems, name="name")
        first = {site.name: (place, site) for place, site in own}
        listed = first | {name: found for name, found in listed.items() if name not in first}
    groups = [
        SiteGroup(
            _limited(msgspec.structs.replace(default, name=site.name), site, place, problems), site.domains, site.mx
        )
        for place, site in listed.values()
    ]
    return SiteRules(default, groups, penalty)


def _limited(base: Site, limits: Limits, where: str, problems: Problems) -> Site:
    changes: dict[str, Any] = {}
    for key in (
        "connections",
        "mails_per_connection",
        "failed_connects",
        "tls",
        "lanes",
        "egress",
        "egress_connections",
    ):
        value = getattr(limits, key)
        if value is not None:
            changes[key] = value
    for key in ("rate", "connect_rate", "egress_rate"):
        text = getattr(limits, key)
        if text is not None:
            with problems.at(f"{where}.{key}"):
                changes[key] = None if text == "unlimited" else Rate.parse(text)
    for key in ("idle", "pause"):
        text = getattr(limits, key)
        if text is not None:
            with problems.at(f"{where}.{key}"):
                changes[key] = parse_duration(text)
    site = msgspec.structs.replace(base, **changes)
    if site.lanes > site.connections:
        problems.add(f"{where}.lanes", f"{site.lanes} lanes cannot share {site.connections} connections")
    if site.egress_connections is not None and site.lanes > site.egress_connections:
        problems.add(
            f"{where}.egress_connections", f"{site.lanes} lanes cannot share {site.egress_connections} connections"
        )
    return site


def _penalty(base: Penalty, slow: Slow, problems: Problems) -> Penalty:
    changes: dict[str, Any] = {}
    if slow.connections is not None:
        changes["connections"] = slow.connections
    with problems.at(f"{FILE}: penalty.rate"):
        if slow.rate is not None:
            changes["rate"] = Rate.parse(slow.rate)
    with problems.at(f"{FILE}: penalty.lasts"):
        if slow.lasts is not None:
            changes["lasts"] = parse_duration(slow.lasts)
    return msgspec.structs.replace(base, **changes)
