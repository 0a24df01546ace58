"""``bounces.toml`` → :class:`BounceRules`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from msgspec import Meta

from sluice.adapters.rules.reading import Problems, only, read_table, read_tables
from sluice.domain.bounce import BounceRule, BounceRules, Category, Traits, check_rule
from sluice.domain.errors import RuleError
from sluice.domain.outcome import Fault
from sluice.domain.shaping import parse_duration
from sluice.domain.smtp import Phase

FILE = "bounces.toml"
Texts = tuple[Annotated[str, Meta(min_length=1)], ...]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a [[rule]]; as :class:`BounceRule`, with ``suspend`` as text."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    category: Category
    codes: Texts = ()
    enhanced: Texts = ()
    contains: Texts = ()
    text: str | None = None
    phases: tuple[Phase, ...] = ()
    sites: Texts = ()
    reasons: Texts = ()
    action: Literal["defer", "bounce"] | None = None
    fault: Fault | None = None
    slow_down: bool | None = None
    suspend: str | None = None
    suppress: bool | None = None
    pace: str | None = None


def build_bounces(
    layers: list[dict[str, Any]], problems: Problems, *, paces: set[str] | None, sites: set[str] | None
) -> BounceRules:
    """Put layers together, the strongest last: its rules come first, and replace those of the same id.

    ``paces`` and ``sites`` are the names that rules may use; None when they are not known.
    """
    traits: dict[Category, Traits] = {}
    listed: dict[str, tuple[str, Listed]] = {}
    for tables in layers:
        only(tables, {"category", "rule"}, FILE, problems)
        traits |= _traits(tables.get("category", {}), problems)
        own = read_tables(Listed, tables.get("rule", []), f"{FILE}: rule", problems, name="id")
        first = {rule.id: (place, rule) for place, rule in own}
        listed = first | {name: found for name, found in listed.items() if name not in first}
    rules: list[BounceRule] = []
    for place, given in listed.values():
        with problems.at(place):
            rule = _rule(given)
            check_rule(rule, traits)
            rules.append(rule)
        if paces is not None and given.pace is not None and given.pace not in paces:
            problems.add(f"{place}.pace", f"retry.toml has no [pace.{given.pace}]")
        for site in given.sites:
            if sites is not None and site not in sites:
                problems.add(f"{place}.sites", f"sites.toml has no site named {site}")
    problems.raise_all()
    return BounceRules(rules, traits)


def _rule(given: Listed) -> BounceRule:
    values = msgspec.structs.asdict(given)
    try:
        values["suspend"] = None if given.suspend is None else parse_duration(given.suspend)
    except RuleError as error:
        raise RuleError(f"suspend: {error}") from error
    return BounceRule(**values)


def _traits(tables: object, problems: Problems) -> dict[Category, Traits]:
    where = f"{FILE}: category"
    if not isinstance(tables, dict):
        problems.add(where, "a table is needed here")
        return {}
    found: dict[Category, Traits] = {}
    for name, table in tables.items():
        if name not in get_args(Category):
            problems.add(f"{where}.{name}", f"unknown category; there are {', '.join(get_args(Category))}")
            continue
        traits = read_table(Traits, table, f"{where}.{name}", problems)
        if traits is None:
            continue
        if traits.suppress and traits.fault != "recipient":
            problems.add(f"{where}.{name}.suppress", "only what is the recipient's own fault may suppress")
        found[cast("Category", name)] = traits
    return found
