"""``sluice restore``: what can be made again from what is left, and whether it is the same."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.commands.restore_outcomes import outcomes
from sluice.commands.restore_reference import reference
from sluice.runtime import console as parts
from sluice.runtime import console_restore as restoring
from sluice.runtime.config import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="Make ClickHouse's tables again from Kafka, and reference topics from ClickHouse; compare what came of it.",
)
app.command()(outcomes)
app.command()(reference)


@app.command()
def compare(
    database: Annotated[str, typer.Argument(help="The other database.", metavar="DATABASE")],
    url: Annotated[str | None, typer.Option("--url", help="Of the other's ClickHouse; default: the same one.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Only this day, in UTC, and later.")
    ] = None,
    before: Annotated[
        str | None, typer.Option("--before", metavar="DATE", help="Only before this day; leaves out what comes in now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare outcomes, recipients and every rollup of two databases: rows, and sums over what is in them.

    Exit code 1 when anything differs. Times of insertion and digests of latencies are left out.

    Example: [cyan]sluice restore compare sluice_drill --since 2026-05-01 --before 2026-05-02[/]
    """
    settings = load_settings()
    try:
        days = restoring.days(since, before)
    except ValueError as error:
        raise WrongUsage("--since and --before take a day: 2026-05-01") from error
    with parts.clickhouse(settings, timeout_s=3600) as here, restoring.other_database(settings, database, url) as there:
        found = restoring.comparison().compare(here, there, days)
    differing = [one.table for one in found if not one.equal]
    if as_json:
        print_json({"equal": not differing, "tables": [_told(one) for one in found]})
    else:
        rows = [(one.table, _rows(one.here), _rows(one.there), "yes" if one.equal else "NO") for one in found]
        console().print(table(("table", f"{settings.clickhouse_database}>", f"{database}>", "equal"), rows))
        say(f"they differ: {', '.join(differing)}" if differing else "they hold the same")
    if differing:
        raise typer.Exit(1)


def _told(one: Any) -> dict[str, Any]:
    return {**msgspec.structs.asdict(one), "equal": one.equal}


def _rows(held: Any) -> Any:
    return "no table" if held is None else held.rows
