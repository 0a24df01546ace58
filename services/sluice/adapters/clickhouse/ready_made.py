"""Ready-made queries: files of SQL in ``schemas/clickhouse/queries``, whose header says what they answer.

Its lines begin with ``--``. The first is ``name: what it answers``, then prose, then lines that begin with ``@``::

    @param NAME TYPE [= DEFAULT] | meaning       a DateTime is a moment, or so much ago: 7d, 90m
    @column NAME UNIT | meaning                  in the order of the result
    @reads TABLE, TABLE
    @plot LABEL[,LABEL] VALUE                    which columns a drawing shows
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.migrations import schema_folder
from sluice.domain.errors import SluiceError

_PARAM = re.compile(r"@param (\w+) (String|DateTime|UInt32|Float64)(?: = (\S+))? \| (.+)")
_COLUMN = re.compile(r"@column (\w+) (\S+) \| (.+)")
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


class QueryProblem(SluiceError):
    """The caller's fault: no such query or parameter, or a value that cannot be read; it says what there is."""


class Parameter(msgspec.Struct, frozen=True):
    """What a query can be told; ``default`` None when it has to be."""

    name: str
    type: str
    default: str | None
    meaning: str


class Column(msgspec.Struct, frozen=True):
    """What a query answers; ``unit`` is ``-`` for what has none."""

    name: str
    unit: str
    meaning: str


class ReadyMade(msgspec.Struct, frozen=True):
    """One query. ``plot`` is the columns that label a bar, and the one that is its length."""

    name: str
    title: str
    about: str
    parameters: Sequence[Parameter]
    columns: Sequence[Column]
    reads: Sequence[str]
    plot: tuple[Sequence[str], str]
    sql: str

    def values(self, given: Mapping[str, str], now: datetime) -> dict[str, Any]:
        """Values for all parameters from texts; raises :class:`QueryProblem` for one unknown, missing or unreadable."""
        names = [one.name for one in self.parameters]
        for name in given:
            if name not in names:
                raise QueryProblem(
                    f"{self.name} has no parameter {name!r}{_near(name, names)}; it has {', '.join(names)}"
                )
        values = {}
        for one in self.parameters:
            text = given.get(one.name, one.default)
            if text is None:
                raise QueryProblem(f"{self.name} needs --param {one.name}=…: {one.meaning}")
            values[one.name] = _value(one, text, now)
        return values

    def bound(self, database: str) -> str:
        """The SQL for a database."""
        return self.sql.replace("{database}", database)


def ready_made() -> dict[str, ReadyMade]:
    """All queries by name, in alphabetical order."""
    files = sorted((schema_folder() / "queries").iterdir(), key=lambda entry: entry.name)
    found = [read_query(file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".sql")]
    return {query.name: query for query in found}


def find_query(name: str) -> ReadyMade:
    """A query by its name; raises :class:`QueryProblem` with the names that come near."""
    known = ready_made()
    if name not in known:
        raise QueryProblem(f"there is no query {name!r}{_near(name, list(known))}; see them all with: sluice query")
    return known[name]


def ask(
    clickhouse: ClickHouse, query: ReadyMade, values: Mapping[str, Any], seconds: float | None = None
) -> list[dict[str, Any]]:
    """A query's rows by column name; it may only read. Raises what the connection raises."""
    return clickhouse.rows(query.bound(clickhouse.database), values, _limits(seconds))


def export(
    clickhouse: ClickHouse, query: ReadyMade, values: Mapping[str, Any], form: str, seconds: float | None = None
) -> bytes:
    """A query's result in one of ClickHouse's formats, such as ``CSVWithNames`` or ``Parquet``."""
    return clickhouse.export(query.bound(clickhouse.database), form, values, _limits(seconds))


def _limits(seconds: float | None) -> dict[str, Any]:
    return {"readonly": 2, **({"max_execution_time": seconds} if seconds else {})}


def read_query(file: str, text: str) -> ReadyMade:
    """Read one file; raises :class:`SluiceError` naming what is wrong with it, which is a defect of this version."""
    lines = text.splitlines()
    header = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    name, _, title = header[0].partition(": ")
    if f"{name}.sql" != file or not title:
        raise SluiceError(f"{file}: the first line is to be '-- {file.removesuffix('.sql')}: what it answers'")
    parameters, columns, reads, plot = [], [], list[str](), None
    for line in header[1:]:
        if match := _PARAM.fullmatch(line):
            default = None if match[3] is None else match[3].strip("'")
            parameters.append(Parameter(match[1], match[2], default, match[4]))
        elif match := _COLUMN.fullmatch(line):
            columns.append(Column(match[1], match[2], match[3]))
        elif line.startswith("@reads "):
            reads = [table.strip() for table in line.removeprefix("@reads ").split(",")]
        elif line.startswith("@plot "):
            labels, value = line.removeprefix("@plot ").split(" ")
            plot = (labels.split(","), value)
        elif line.startswith("@"):
            raise SluiceError(f"{file}: cannot read {line!r}")
    if plot is None:
        raise SluiceError(f"{file}: has no @plot")
    about = " ".join(line for line in header[1:] if not line.startswith("@")).strip()
    sql = "\n".join(line for line in lines if not line.startswith("--"))
    return ReadyMade(name, title, " ".join(about.split()), parameters, columns, reads, plot, sql)


def _value(parameter: Parameter, text: str, now: datetime) -> Any:
    try:
        match parameter.type:
            case "UInt32":
                number = int(text)
                if not 0 <= number < 1 << 32:
                    raise ValueError(text)
                return number
            case "Float64":
                return float(text)
            case "DateTime":
                return _moment(text, now)
    except (ValueError, OverflowError) as error:
        wanted = {"UInt32": "a whole number", "Float64": "a number"}.get(
            parameter.type, "a moment such as 2026-05-01T09:00:00Z, or so much ago: 90m, 24h, 7d"
        )
        raise QueryProblem(f"{parameter.name}: {text!r} is not {wanted}") from error
    return text


def _moment(text: str, now: datetime) -> datetime:
    """To the second, in UTC; what has no offset is UTC, as everything in the tables is."""
    if match := _AGO.fullmatch(text.strip()):
        moment = now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    else:
        moment = datetime.fromisoformat(text.strip())
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=0)


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, 2, 0.5)
    return f": did you mean {' or '.join(close)}?" if close else ""
