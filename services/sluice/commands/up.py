"""``sluice up``."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.commands.failures import EXIT_FAILED, WrongUsage
from sluice.commands.output import console
from sluice.local.display import Display, addresses
from sluice.local.folder import DataFolder
from sluice.local.options import Options
from sluice.local.running import Interrupted, running
from sluice.local.stack import LocalStack, plan

DATA = Path(".sluice")
Count = Annotated[int, typer.Option(min=0, max=64, rich_help_panel="Services", help="How many of these processes.")]


def up(
    data: Annotated[Path, typer.Option(help="Folder that keeps everything.", file_okay=False)] = DATA,
    compose: Count = 1,
    deliver: Count = 1,
    wheel: Count = 1,
    record: Count = 1,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", rich_help_panel="Outside parts", help="Use this Kafka instead.")
    ] = None,
    clickhouse: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            rich_help_panel="Outside parts",
            help="Use this ClickHouse instead: http://USER:PASSWORD@HOST:8123; "
            "without a user, SLUICE_CLICKHOUSE_USER and SLUICE_CLICKHOUSE_PASSWORD.",
        ),
    ] = None,
    smtp: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", rich_help_panel="Outside parts", help="Send all mail to this.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Offer STARTTLS at the mailbox, and use it.")] = False,
    rules: Annotated[
        Path | None, typer.Option(help="Folder of rule files that lie over the built-in.", exists=True, file_okay=False)
    ] = None,
    examples: Annotated[
        bool | None,
        typer.Option(
            "--examples/--no-examples",
            help="Publish the examples' tenants and templates; by default once, into an embedded Kafka only.",
        ),
    ] = None,
    lasting: Annotated[
        bool,
        typer.Option(
            "--lasting", help="Stay for hours: the embedded Kafka is slower in the first minutes, faster later."
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the folder's content away first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before throwing away.")] = False,
    new_ports: Annotated[bool, typer.Option("--new-ports", help="Choose ports anew.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live table.")] = False,
) -> None:
    """Run Kafka, ClickHouse, a receiving mail server and every service on this machine.

    All data is kept in one folder; ctrl-c stops everything, and the next [bold]sluice up[/] goes on where it was, on
    the same ports. Processes that die are started again; their logs lie in the folder.

    Example: [cyan]sluice up --deliver 2[/], and in another shell [cyan]source .sluice/sluice.env[/]
    """
    if compose + deliver + wheel + record == 0:
        raise WrongUsage("there is no service to run")
    folder = DataFolder(data)
    if fresh and folder.path.exists():
        if not yes:
            typer.confirm(f"Throw away everything in {folder.path}?", abort=True)
        folder.wipe()
    set_up_logs("up", "local", level="error", form="console")
    display = Display(console(), live=False if plain else None)
    counts = {"compose": compose, "deliver": deliver, "wheel": wheel, "record": record}
    stack = plan(
        Options(
            data=data,
            counts=counts,
            kafka=kafka,
            clickhouse=clickhouse,
            smtp=smtp,
            tls=tls,
            rules=rules,
            examples=examples,
            lasting=lasting,
            new_ports=new_ports,
        ),
        say=display.progress,
    )
    try:
        asyncio.run(_up(stack, display))
    except Interrupted:
        raise typer.Exit(EXIT_FAILED) from None


async def _up(stack: LocalStack, display: Display) -> None:
    display.say("starting (the very first time, ClickHouse takes a while to load)")
    display.start()
    try:
        async with running(stack, display.watch) as run, display.figures(stack):
            for line in told(stack):
                display.say(line)
            await run.wait()
            display.progress("stopping")
    finally:
        display.stop()
    display.say("stopped; the next `sluice up` goes on from here")


def told(stack: LocalStack) -> list[str]:
    """Where everything is, and what to type."""
    lines = ["everything runs:"]
    lines += [f"  {name:<11}{where}" for name, where in addresses(stack)]
    lines += [
        "in another shell:",
        f"  source {shlex.quote(_near(stack.folder.environment))}",
        "  sluice send --tenant acme --to jo@mail.example --subject Hello --text 'Hi there'",
        "ctrl-c stops it",
    ]
    return lines


def _near(path: Path) -> str:
    """The path as seen from here, when it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
