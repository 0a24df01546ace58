"""What a site tolerates, limit by limit, and which table of which file says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sluice.commands.output import duration
from sluice.domain.site import Site

Layer = tuple[str, dict[str, Any]]
"""Where a ``sites.toml`` lies, and its tables."""

FILE = "sites.toml"
_IN_SECONDS = ("idle", "pause")
_RATES = ("rate", "connect_rate", "egress_rate")


class Limit(msgspec.Struct, frozen=True):
    """One of a site's limits; ``source`` names the table and the file."""

    name: str
    value: str
    source: str


def limits_of(site: Site, layers: Sequence[Layer]) -> list[Limit]:
    """Every limit of ``site``; ``layers`` are the files that the rules were read from, the weakest first."""
    return [
        Limit(field.name, _shown(field.name, getattr(site, field.name)), _source(site.name, field.name, layers))
        for field in msgspec.structs.fields(Site)
        if field.name != "name"
    ]


def listed_in(name: str, layers: Sequence[Layer]) -> tuple[str, dict[str, Any]] | None:
    """The file that lists a site, and its table there; None when the rules have no site of that name."""
    for where, tables in reversed(layers):
        for table in tables.get("site", ()):
            if table.get("name") == name:
                return where, table
    return None


def _source(site: str, key: str, layers: Sequence[Layer]) -> str:
    listed = listed_in(site, layers)
    if listed is not None and key in listed[1]:
        return f"site {site}, {listed[0]}"
    for where, tables in reversed(layers):
        if key in tables.get("default", {}):
            return f"default, {where}"
    return "no file says; Sluice's own default"


def _shown(key: str, value: object) -> str:
    if value is None:
        return "unlimited" if key in _RATES else "none"
    if key in _IN_SECONDS and isinstance(value, float):
        return duration(value * 1000)
    return str(value)
