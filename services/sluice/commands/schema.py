"""``sluice schema``: ClickHouse's tables."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, report, say, table
from sluice.runtime import console as parts
from sluice.runtime import console_analytics as analytics
from sluice.runtime.config import load_settings

_FILLING_S = 3600
"""Seconds for one statement: filling a rollup from what was recorded before takes a while."""

app = typer.Typer(no_args_is_help=True, help="Plan and apply ClickHouse's tables, by numbered migrations.")


@app.command()
def plan(
    as_json: AsJson = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements themselves.")] = False,
) -> None:
    """Show the migrations that apply would make, and change nothing.

    With SLUICE_CLICKHOUSE_CLUSTER set, --sql shows them with ON CLUSTER and Replicated engines.

    Example: [cyan]sluice schema plan --sql[/]
    """
    settings = load_settings()
    if sql:
        with parts.clickhouse(settings) as store:
            pending = [step.migration for step in parts.migrations().plan(store) if step.state == "pending"]
        made = parts.migrations().statements(pending, settings.clickhouse_database, settings.clickhouse_cluster)
        return print_json(made) if as_json else say("\n\n".join(f"{text};" for text in made))
    rows = [row for row in _steps() if row["state"] == "pending"]
    return _print(rows, as_json, "nothing to do: the schema is up to date")


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

    Stop the record service first where outcomes have been recorded: new rollups are filled from them, and what is
    inserted meanwhile could be counted twice. Outcomes wait in Kafka.

    Example: [cyan]SLUICE_CLICKHOUSE_URL=http://clickhouse:8123 sluice schema apply[/]
    """
    settings = load_settings()
    with parts.clickhouse(settings, timeout_s=_FILLING_S) as store:
        done = parts.migrations().apply(store, cluster=settings.clickhouse_cluster)
        if done:
            analytics.retention().enforce(store, settings.clickhouse_cluster)
    _print(
        [{"version": one.version, "name": one.name, "state": "applied"} for one in done],
        as_json,
        "nothing to do: the schema is up to date",
    )


@app.command()
def retention(
    tenant: Annotated[str | None, typer.Argument(help="Whose rows; absent: list all tenants that differ.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=399, help="Keep them for so long.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Keep them as long as all others.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set for how long a tenant's outcomes are kept, where that is shorter than 13 months.

    It holds for what is stored already too. Rollups without mails or addresses in them are kept as for all.

    Example: [cyan]sluice schema retention acme --days 90[/]
    """
    settings = load_settings()
    with parts.clickhouse(settings, timeout_s=_FILLING_S) as store:
        if tenant is None:
            if days is not None or default:
                raise WrongUsage("which tenant? sluice schema retention TENANT --days N")
            kept = analytics.retention().retention(store)
            if as_json:
                return print_json(kept)
            return (
                console().print(table(("tenant", "days>"), [(one.tenant_id, one.days) for one in kept]))
                if kept
                else say("all tenants' outcomes are kept for 13 months")
            )
        if (days is None) != default:
            raise WrongUsage("give either --days N or --default")
        analytics.retention().keep_for(store, tenant, days, parts.operator(), settings.clickhouse_cluster)
    said = f"{days} days" if days else "as long as all others'"
    return report({"tenant": tenant, "days": days}, f"outcomes of {tenant} are kept {said}", as_json=as_json)


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
