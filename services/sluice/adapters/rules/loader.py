"""Rule files → the domain's rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sluice.adapters.rules.bounces import build_bounces
from sluice.adapters.rules.reading import Problems, parse_toml, read_file
from sluice.adapters.rules.retry import build_retry
from sluice.adapters.rules.sites import build_sites
from sluice.adapters.rules.triggers import build_triggers
from sluice.domain.errors import RuleError
from sluice.domain.rules import Rules

FILES = ("sites.toml", "bounces.toml", "retry.toml", "triggers.toml")


class RuleText(msgspec.Struct, frozen=True):
    """The rule files as they were read, by name: each the built-in bytes and those over them."""

    files: Mapping[str, tuple[bytes, ...]]

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that differ when anything in the files does."""
        digest = hashlib.blake2b(digest_size=6)
        for name in FILES:
            for layer in self.files[name]:
                digest.update(f"{name}:{len(layer)}:".encode())
                digest.update(layer)
        return digest.hexdigest()


def load_rules(folder: Path | None = None) -> Rules:
    """The built-in rules, with those in ``folder`` over them.

    The folder has any of ``sites.toml``, ``bounces.toml``, ``retry.toml`` and ``triggers.toml``. How a file lies over
    the built-in one is said at that file's top. Raises :class:`RuleError` with one line for each mistake:
    ``sites.toml: site[slow.example].rate: not a rate: …``.
    """
    return build_rules(read_rules(folder))


def read_rules(folder: Path | None = None) -> RuleText:
    """Read the files, without looking at what they say. Raises :class:`RuleError` for what cannot be read."""
    try:
        if folder is not None and not folder.is_dir():
            raise RuleError(f"rules: there is no folder {folder}")
    except OSError as error:
        raise RuleError(f"rules: {folder} cannot be read: {error.strerror}") from error
    problems = Problems()
    found: dict[str, tuple[bytes, ...]] = {}
    for name in FILES:
        try:
            found[name] = tuple(read_file(name, each) for each in ([None] if folder is None else [None, folder]))
        except OSError as error:
            problems.add(name, error)
    problems.raise_all()
    return RuleText(found)


def build_rules(text: RuleText) -> Rules:
    """Raises :class:`RuleError` with one line for each mistake."""
    problems = Problems()
    layers = {name: [parse_toml(name, layer, problems) for layer in text.files[name]] for name in FILES}
    sites = build_sites(layers["sites.toml"], problems)
    retry = build_retry(layers["retry.toml"], problems)
    clean = not problems.found
    names = {group.site.name for group in sites.groups} if clean else None
    paces = set(retry.paces) if clean else None
    bounces = build_bounces(layers["bounces.toml"], problems, paces=paces, sites=names)
    triggers = build_triggers(layers["triggers.toml"], problems, sites=names, rules={rule.id for rule in bounces.rules})
    return Rules(sites, bounces, retry, triggers, text.version)
