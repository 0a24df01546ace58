"""The tree of commands. Each is imported when it is called, so that ``sluice --help`` needs none of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup
from typer.main import get_command

from sluice import __version__
from sluice.commands.failures import explain


class Entry(msgspec.Struct, frozen=True):
    """A command: ``attribute`` of ``module`` is its function, or a Typer of its own for a group."""

    name: str
    module: str
    attribute: str
    help: str
    panel: str


def _entry(name: str, attribute: str, panel: str, text: str) -> Entry:
    return Entry(name, f"sluice.commands.{name}", attribute, text, panel)


_LOGGING = ("up", "demo", "run", "bench", "torture")
"""Commands that run services, or parts, and set up logs of their own."""

START, MAIL, DATA, OPERATE = "Start here", "Mail", "Reference data", "Operating"
ENTRIES = (
    _entry("demo", "demo", START, "Start everything, send mail through it, and show where all of it went."),
    _entry("up", "up", START, "Run Kafka, ClickHouse, a mailbox and every service on this machine."),
    _entry("run", "run", START, "Run one service: compose, deliver, wheel or record."),
    _entry("send", "send", MAIL, "Send one mail, or every line of a JSON Lines file."),
    _entry("status", "status", MAIL, "Show lag and rate of topics, and how mail fares at each site."),
    _entry("watch", "watch", MAIL, "Watch mail go through: rates, lag, lanes, slow sites, failures as they come."),
    _entry("outcomes", "outcomes", MAIL, "Print outcome events as JSON lines, as they happen; straight from Kafka."),
    _entry("mail", "app", MAIL, "Show everything that happened to a mail; list, release and drop held ones."),
    _entry("query", "query", MAIL, "Answer ready-made questions about outcomes; as a table, a file or a plot."),
    _entry("redrive", "app", MAIL, "Select mails by SQL, and send them again, each once."),
    _entry("dead", "app", MAIL, "List records that could not be handled, and replay them."),
    _entry("tenant", "app", DATA, "Push, list, show and remove tenants."),
    _entry("template", "app", DATA, "Push, list, show and preview templates."),
    _entry("suppress", "app", DATA, "Add, remove, list, import and export suppressed addresses."),
    _entry("profile", "app", DATA, "Push what is known of recipients."),
    _entry("dkim", "app", DATA, "Generate DKIM keys and their DNS records."),
    _entry("sites", "app", OPERATE, "Say what limits a site and when it is sent to; suspend and resume it."),
    _entry("doctor", "doctor", OPERATE, "Check settings, Kafka, ClickHouse, DNS, keys and rules; say what to do."),
    _entry("topics", "app", OPERATE, "Plan and apply Kafka topics."),
    _entry("schema", "app", OPERATE, "Plan and apply ClickHouse's tables."),
    _entry("restore", "app", OPERATE, "Make ClickHouse again from Kafka, reference topics from ClickHouse."),
    Entry("tls-reports", "sluice.commands.tls_reports", "app", "Show and send reports of TLS to domains.", OPERATE),
    _entry("erase", "erase", OPERATE, "Remove a person from ClickHouse and from reference data."),
    _entry("config", "config", OPERATE, "Show every setting, its value and what it means."),
    _entry("bench", "bench", OPERATE, "Measure how many mails a second go all the way."),
    _entry("torture", "torture", OPERATE, "Hurt a running Sluice by a plan, and account for every mail."),
)

EPILOG = (
    "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage or settings. "
    "Settings are environment variables SLUICE_*, or the TOML file that SLUICE_CONFIG names: see sluice config."
)


class LazyGroup(TyperGroup):
    """Lists stubs, loads the command that is called, and turns expected failures into one sentence."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer's, with the real command in its stub's place."""
        entry = next((entry for entry in ENTRIES if entry.name == args[0]), None)
        if entry is not None:
            try:
                self.commands[entry.name] = _load(entry)
            except ModuleNotFoundError as error:
                sys.stderr.write(f"sluice {entry.name}: {_missing(error)}\n")
                raise typer.Exit(1) from error
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As Typer's; a failure that is no defect ends in a sentence on standard error and an exit code."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = explain(error)
            if told is None:
                raise
            sentence, code = told
            sys.stderr.write(f"sluice {ctx.invoked_subcommand or ''}: {sentence}\n")
            raise typer.Exit(code) from error


def _load(entry: Entry) -> Any:
    found = getattr(importlib.import_module(entry.module), entry.attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(entry.name)(found)
        found = single
    if entry.name not in _LOGGING:
        from sluice.runtime.console import hush

        hush()
    command = get_command(found)
    command.name = entry.name
    return command


def _missing(error: ModuleNotFoundError) -> str:
    if (error.name or "").startswith("sluice."):
        return "this version of Sluice does not have it"
    return f"the package {error.name} is not installed: pip install 'sluice-mail[embedded]'"


app = typer.Typer(
    cls=LazyGroup,
    name="sluice",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Sluice: from a send event on Kafka to the receiving server's 250, with every outcome in ClickHouse."""


def _stub(entry: Entry) -> Callable[[], None]:
    def stub() -> None:
        """Stands in for the command until it is called."""

    app.command(entry.name, help=entry.help, rich_help_panel=entry.panel)(stub)
    return stub


for _known in ENTRIES:
    _stub(_known)
