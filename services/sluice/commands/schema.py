"""``sluice schema``: ClickHouse's tables."""

from __future__ import annotations

from typing import Any

import typer

from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Plan and apply ClickHouse's tables, by numbered migrations.")


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Show the migrations that apply would make, and change nothing.

    Example: [cyan]sluice schema plan[/]
    """
    pending = [row for row in _steps() if row["state"] == "pending"]
    _print(pending, as_json, "nothing to do: the schema is up to date")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show every migration, applied or pending. Exit code 1 when one is pending.

    Example: [cyan]sluice schema status[/]
    """
    rows = _steps()
    _print(rows, as_json, "there are no migrations")
    if any(row["state"] == "pending" for row in rows):
        raise typer.Exit(1)


@app.command()
def apply(as_json: AsJson = False) -> None:
    """Apply what is pending; safe to repeat.

    Example: [cyan]SLUICE_CLICKHOUSE_URL=http://clickhouse:8123 sluice schema apply[/]
    """
    with parts.clickhouse(load_settings()) as store:
        done = parts.migrations().apply(store)
    _print(
        [{"version": one.version, "name": one.name, "state": "applied"} for one in done],
        as_json,
        "nothing to do: the schema is up to date",
    )


def _steps() -> list[dict[str, Any]]:
    with parts.clickhouse(load_settings()) as store:
        steps = parts.migrations().plan(store)
    return [{"version": s.migration.version, "name": s.migration.name, "state": s.state} for s in steps]


def _print(rows: list[dict[str, Any]], as_json: bool, none: str) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        console().print(
            table(("number>", "migration", "state"), [(f"{r['version']:04d}", r["name"], r["state"]) for r in rows])
        )
    else:
        say(none)
