"""``sluice config``: every setting."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.runtime.config import CONFIG_FILE, PREFIX, Settings, load_settings

_MADE = {"node": "the host's name", "ehlo_name": "the host's full name"}
"""Defaults that differ from machine to machine, in words."""


def config(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference, as a Markdown table.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only whether settings, rules and routes are valid.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting: its variable, its value here, its default, what it means. Secrets are not shown.

    With --check, exit code 2 when a setting, a rule file or a route is wrong, with everything that is.

    Example: [cyan]sluice config --markdown > docs/settings.md[/]

    Example: [cyan]SLUICE_RULES_DIR=rules sluice config --check[/]
    """
    if markdown + as_json + check > 1:
        raise WrongUsage("--markdown, --json and --check exclude each other")
    if check:
        return _check()
    if markdown:
        return say(_markdown())
    settings = load_settings()
    rows = [
        {
            "variable": _variable(name),
            "value": _plain(getattr(settings, name)),
            "default": _default(name, field),
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        return print_json(rows)
    shown = [(r["variable"], _text(r["value"]), _text(r["default"]), r["description"]) for r in rows]
    console().print(table(("variable", "value", "default", "meaning"), shown))
    return say(f"{CONFIG_FILE} may name a TOML file that holds settings by their names in small letters.")


def _check() -> None:
    from sluice.runtime import console_rules, wiring
    from sluice.runtime.kafka_certificate import client_certificate

    settings = load_settings()
    # Not whether this machine has the egresses' addresses: it may be another one that is to have them.
    wiring.check_egresses(console_rules.egresses(settings), wiring.rules(settings))
    wiring.routes(settings)
    client_certificate(settings)
    say("settings, rules and routes are valid")


def _markdown() -> str:
    lines = ["| Variable | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default, allowed = _text(_default(name, field)), _allowed(field)
        shown = default if name in _MADE else f"`{default}`" if default else ""
        cells = [f"`{_variable(name)}`", shown, allowed, field.description or ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _variable(name: str) -> str:
    return f"{PREFIX}{name}".upper()


def _default(name: str, field: FieldInfo) -> Any:
    if name in _MADE:
        return _MADE[name]
    return None if field.default is PydanticUndefined else _plain(field.default)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    return value if value is None or isinstance(value, int | float | bool) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    """The choices or bounds, in words."""
    choices = [choice for choice in getattr(field.annotation, "__args__", ()) if isinstance(choice, str)]
    for member in getattr(field.annotation, "__args__", ()):
        choices += [choice for choice in getattr(member, "__args__", ()) if isinstance(choice, str)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = []
    for rule in field.metadata:
        for sign, attribute in ((">", "gt"), ("≥", "ge"), ("<", "lt"), ("≤", "le")):
            if (bound := getattr(rule, attribute, None)) is not None:
                bounds.append(f"{sign} {bound:g}")
    return ", ".join(bounds)
