"""``sluice demo``."""

from __future__ import annotations

import asyncio
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.commands.failures import EXIT_FAILED, WrongUsage
from sluice.commands.output import AsJson, console, duration, print_json, table
from sluice.local.demo import Demo, Report, demo_options, demo_reference, traffic
from sluice.local.display import Display, addresses
from sluice.local.folder import MARK, DataFolder
from sluice.local.running import Interrupted, running
from sluice.local.stack import LocalStack, plan

DATA = Path(".sluice/demo")
DEMO_MARK = "sluice-demo"
"""A file that says that a folder is a demo's, which the next demo may wipe."""
BY_STATE = "SELECT state, count() FROM mail_state GROUP BY state"
BY_REASON = "SELECT site, category, count() FROM outcomes WHERE event_type = 'deferred' GROUP BY ALL ORDER BY 3 DESC"


def demo(
    mails: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many mails to make up.")] = 3000,
    domains: Annotated[int, typer.Option(min=4, max=1000, help="To how many domains.")] = 50,
    data: Annotated[Path, typer.Option(help="Folder for the demo; emptied first.", file_okay=False)] = DATA,
    seed: Annotated[int, typer.Option(help="Another number makes up other mails.")] = 1,
    patience: Annotated[float, typer.Option(help="Seconds after publishing within which all must have ended.")] = 120,
    keep: Annotated[bool, typer.Option("--keep", help="Go on running afterwards, until ctrl-c.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything, send mail through it, and show where all of it went.

    Real Kafka, ClickHouse and SMTP on this machine; the examples and some thousand made-up mails, of which some are
    put off, bounce, hang, are slow, suppressed, wrong or too late. At the end every mail must be accounted for: by
    ClickHouse, by the producer's count and by what the mailbox holds. Exit code 1 when they differ.
    """
    _empty(DataFolder(data))
    set_up_logs("demo", "local", level="error", form="console")
    display = Display(console(stderr=as_json), live=False if plain else None)
    began = time.monotonic()
    stack = plan(demo_options(data), demo_reference(), say=display.progress)
    try:
        good = asyncio.run(_demo(stack, display, began, (mails, domains, seed), patience, keep=keep, as_json=as_json))
    except Interrupted:
        raise typer.Exit(EXIT_FAILED) from None
    if not good:
        raise typer.Exit(EXIT_FAILED)


async def _demo(
    stack: LocalStack,
    display: Display,
    began: float,
    wanted: tuple[int, int, int],
    patience: float,
    *,
    keep: bool,
    as_json: bool,
) -> bool:
    display.say("starting Kafka, ClickHouse, a mailbox and the services (the first time takes longer)")
    display.start()
    try:
        async with running(stack, display.watch) as run, display.figures(stack):
            display.say(f"all runs after {time.monotonic() - began:.1f} s; sending")
            work = Demo(stack, traffic(*wanted), patience, display.progress)
            report = await run.during(work.run())
            if as_json:
                print_json({"difference": report.reckoning.difference, "report": report})
            else:
                show(report, display)
            for line in look_on(stack, keep=keep):
                display.say(line)
            if keep:
                display.below("ctrl-c stops it")
                await run.wait()
            display.below("stopping")
    finally:
        display.stop()
    display.say(f"done after {time.monotonic() - began:.0f} s, set-up and stopping included")
    return report.quiet and report.reckoning.difference == 0


def show(report: Report, display: Display) -> None:
    """The tables and the equation."""
    found = report.reckoning
    columns = ("site", "mails>", "delivered>", "bounced>", "suppressed>", "rejected>", "expired>", "dead>", "waiting>")
    rows = [
        (
            *(getattr(line, name) for name in ("site", "mails", "delivered", "bounced", "suppressed", "rejected")),
            *(line.expired, line.dead, line.waiting, duration(line.p50_ms), duration(line.p99_ms)),
        )
        for line in report.sites
    ]
    display.console.print(table((*columns, "p50>", "p99>"), rows, title="Sites; times from publish to the 250"))
    ended = [(each.state, each.mails, duration(each.p50_ms), duration(each.p99_ms)) for each in report.outcomes]
    display.console.print(table(("outcome", "mails>", "p50>", "p99>"), ended, title="Outcomes; times to the last step"))
    display.say(
        f"published {found.published} mails in {report.publishing:.1f} s; all had ended {report.settling:.1f} s after "
        "the first"
        if report.quiet
        else f"NOT all of {found.published} mails had ended when the time was up"
    )
    display.say(
        f"the mailbox holds {found.captured} of the {found.delivered} delivered, and {found.repeated} second copies of "
        f"{found.in_doubt} that were in doubt"
    )
    if found.missing or found.unknown:
        display.say(f"missing in the mailbox {found.missing}, not delivered by ClickHouse {found.unknown}")
    display.say("")
    display.say(found.line())
    display.say(f"difference {found.difference}")
    display.say("")


def look_on(stack: LocalStack, *, keep: bool) -> list[str]:
    """What to type to look further."""
    url = dict(addresses(stack))["ClickHouse"]
    port = url.rpartition(":")[2]
    up = f"sluice up --data {shlex.quote(str(stack.options.data))}"
    start = [] if keep else [f"  {up}", "  # and in another shell"]
    query = f"c.get_client(host='127.0.0.1', port={port}, database='sluice').query('{BY_STATE}').result_rows"
    return [
        "look on" + (":" if keep else ", with everything running again:"),
        *start,
        f"  curl '{url}/?database=sluice' --data-binary \"{BY_REASON} FORMAT PrettyCompact\"",
        f'  python -c "import clickhouse_connect as c; print({query})"',
        f"the mails lie in {stack.folder.mailbox}, the logs in {stack.folder.logs}",
        "a Sluice of your own, kept from run to run: sluice up",
    ]


def _empty(folder: DataFolder) -> None:
    if (folder.path / MARK).exists() and not (folder.path / DEMO_MARK).exists():
        raise WrongUsage(f"{folder.path} is kept by `sluice up`, and a demo would empty it: give another --data")
    folder.wipe()
    folder.make()
    (folder.path / DEMO_MARK).touch()
