"""Rule files → the domain's rules."""

from __future__ import annotations

from pathlib import Path

from sluice.adapters.rules.bounces import build_bounces
from sluice.adapters.rules.reading import Problems, read_toml
from sluice.adapters.rules.retry import build_retry
from sluice.adapters.rules.sites import build_sites
from sluice.adapters.rules.triggers import build_triggers
from sluice.domain.errors import RuleError
from sluice.domain.rules import Rules


def load_rules(folder: Path | None = None) -> Rules:
    """The built-in rules, with those in ``folder`` over them.

    The folder has any of ``sites.toml``, ``bounces.toml``, ``retry.toml`` and ``triggers.toml``. How a file lies over
    the built-in one is said at that file's top. Raises :class:`RuleError` with one line for each mistake:
    ``sites.toml: site[slow.example].rate: not a rate: …``.
    """
    problems = Problems()
    if folder is not None and not folder.is_dir():
        raise RuleError(f"rules: there is no folder {folder}")
    folders = [None] if folder is None else [None, folder]
    sites = build_sites([read_toml("sites.toml", each, problems) for each in folders], problems)
    retry = build_retry([read_toml("retry.toml", each, problems) for each in folders], problems)
    clean = not problems.found
    names = {group.site.name for group in sites.groups} if clean else None
    bounces = build_bounces(
        [read_toml("bounces.toml", each, problems) for each in folders],
        problems,
        paces=set(retry.paces) if clean else None,
        sites=names,
    )
    triggers = build_triggers(
        [read_toml("triggers.toml", each, problems) for each in folders],
        problems,
        sites=names,
        rules={rule.id for rule in bounces.rules},
    )
    return Rules(sites, bounces, retry, triggers)
