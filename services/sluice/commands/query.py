"""``sluice query``: ready-made questions about outcomes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import console, print_json, say, table, warn
from sluice.commands.plot import bars
from sluice.runtime import console as parts
from sluice.runtime import console_analytics as analytics
from sluice.runtime.config import load_settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.ready_made import ReadyMade

Format = Literal["table", "json", "csv", "parquet", "plot"]
_FORMS = {"csv": "CSVWithNames", "parquet": "Parquet"}


def query(
    name: Annotated[str | None, typer.Argument(help="Which query; absent: list them all.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A moment, or so much ago: 90m, 24h, 7d.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The same.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's mail.")] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="How the answer is written.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write csv or parquet to this file.")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Say what it takes and answers, with its SQL.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Give up after so many seconds.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Answer a ready-made question. Without a name: list them.

    Example: [cyan]sluice query latency --since 6h -p priority=high[/]
    [cyan]sluice query deliverability --format plot[/]
    [cyan]sluice query campaigns -f parquet -o campaigns.parquet[/]
    """
    if as_json:
        form = "json"
    made = analytics.ready_made()
    if name is None:
        return _list(list(made.ready_made().values()), as_json=form == "json")
    try:
        chosen = made.find_query(name)
        if describe:
            return _describe(chosen)
        given = _given(param or (), since=since, until=until, tenant=tenant)
        values = chosen.values(given, datetime.now(UTC))
    except made.QueryProblem as error:
        raise WrongUsage(str(error)) from error
    _check(form, output)
    with parts.clickhouse(load_settings(), timeout_s=int(timeout) + 5) as store:
        if form in _FORMS:
            return _write(made.export(store, chosen, values, _FORMS[form], timeout), output)
        rows = made.ask(store, chosen, values, timeout)
    if form == "json":
        return print_json(rows)
    if not rows:
        return warn(f"{chosen.name}: nothing to tell with {_shown(values)}")
    return console().print(_plot(chosen, rows) if form == "plot" else _table(chosen, rows))


def _check(form: Format, output: Path | None) -> None:
    if output is not None and form not in _FORMS:
        raise WrongUsage("--output is for --format csv or parquet")
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise WrongUsage("Parquet is not for a terminal: give --output FILE")


def _given(params: list[str] | tuple[()], **options: str | None) -> dict[str, str]:
    given = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongUsage(f"--param {text!r}: write NAME=VALUE")
        given[name.strip()] = value
    for name, option in options.items():
        if option is not None:
            if name in given:
                raise WrongUsage(f"{name} is given twice, as --{name} and as --param")
            given[name] = option
    return given


def _list(known: list[ReadyMade], *, as_json: bool) -> None:
    if as_json:
        return print_json([{"name": q.name, "title": q.title, "parameters": q.parameters} for q in known])
    rows = [(q.name, q.title, ", ".join(p.name for p in q.parameters)) for q in known]
    console().print(table(("query", "answers", "parameters"), rows))
    return say("sluice query NAME --describe says what a query takes and answers")


def _describe(chosen: ReadyMade) -> None:
    say(f"{chosen.name}: {chosen.title}\n\n{chosen.about}\n\nReads {', '.join(chosen.reads)}.\n")
    parameters = [
        (p.name, p.type, "(required)" if p.default is None else p.default, p.meaning) for p in chosen.parameters
    ]
    console().print(table(("parameter", "type", "default", "meaning"), parameters))
    columns = [(c.name, "" if c.unit == "-" else c.unit, c.meaning) for c in chosen.columns]
    console().print(table(("column", "unit", "meaning"), columns))
    say(chosen.sql.strip())


def _plot(chosen: ReadyMade, rows: list[dict[str, Any]]) -> Any:
    labels, value = chosen.plot
    unit = next(column.unit for column in chosen.columns if column.name == value)
    return bars(rows, labels, value, unit, chosen.title)


def _table(chosen: ReadyMade, rows: list[dict[str, Any]]) -> Any:
    units = {column.name: column.unit for column in chosen.columns}
    heads = []
    for name in rows[0]:
        unit = units.get(name, "-")
        said = f"{name} ({unit})" if unit not in ("-", "date", "time", "mails", "times") and unit not in name else name
        heads.append(said + (">" if isinstance(rows[0][name], int | float) else ""))
    return table(heads, ([_cell(value) for value in row.values()] for row in rows), title=chosen.title)


def _cell(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, float) else value


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value != "")


def _write(content: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise WrongUsage(f"--output {output}: {error.strerror}") from error
    warn(f"{len(content):,} bytes written to {output}")
