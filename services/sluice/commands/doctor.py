"""``sluice doctor``: what is reachable, misconfigured, missing, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.commands.doctor_kafka import look_at_kafka
from sluice.commands.doctor_machine import look_at_machine
from sluice.commands.doctor_store import look_at_store
from sluice.commands.findings import Finding, ok, wrong
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.domain.errors import RuleError
from sluice.runtime.config import CONFIG_FILE, load_settings

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    domain: Annotated[str, typer.Option("--domain", help="Whose MX is looked up to try DNS.")] = "gmail.com",
    as_json: AsJson = False,
) -> None:
    """Check settings, Kafka, ClickHouse, DNS, keys, rules and disk, and say what to do. It changes nothing.

    Exit code 1 when a check fails; warnings do not count.

    Example: [cyan]sluice doctor[/]
    """
    found = list(_findings(domain))
    if as_json:
        print_json(found)
    else:
        rows = [(_state(one), one.check, one.detail, one.remedy) for one in found]
        console().print(table(("", "check", "found", "what to do"), rows))
        counts = Counter(one.state for one in found)
        say(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed")
    if any(one.state == "fail" for one in found):
        raise typer.Exit(1)


def _findings(domain: str) -> Iterator[Finding]:
    try:
        settings = load_settings()
    except RuleError as error:
        # Nothing else can be looked at without them.
        yield wrong("settings", str(error), "correct or unset them; sluice config --markdown lists all")
        return
    source = os.environ.get(CONFIG_FILE)
    yield ok("settings", f"valid, from the environment and {source}" if source else "valid, from the environment")
    yield from look_at_kafka(settings)
    yield from look_at_store(settings)
    yield from look_at_machine(settings, domain)


def _state(one: Finding) -> Text:
    from rich.text import Text

    return Text(one.state, style=_STYLES[one.state])
