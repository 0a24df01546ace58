"""Reading TOML tables into typed values, finding every mistake before giving up."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sluice.domain.errors import RuleError

T = TypeVar("T", bound=msgspec.Struct)


class Problems:
    """Mistakes found so far, each with file, table and key."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, where: str, what: object) -> None:
        """Note one mistake."""
        self.found.append(f"{where}: {what}")

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Note a :class:`RuleError` of the block instead of raising it."""
        try:
            yield
        except RuleError as error:
            self.add(where, error)

    def raise_all(self) -> None:
        """Raise one :class:`RuleError` with a line for each mistake, if there was any."""
        if self.found:
            raise RuleError("\n".join(self.found))


def read_file(name: str, folder: Path | None) -> bytes:
    """The bytes of ``name`` in ``folder`` (none when it has no such file), or of the built-in file if no folder.

    Raises :class:`OSError` for one that is there and cannot be read.
    """
    if folder is None:
        return (files("sluice.rules") / name).read_bytes()
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        return b""


def parse_toml(name: str, text: bytes, problems: Problems) -> dict[str, Any]:
    """The tables in ``text``, which is the file ``name``; none when it is wrong, which is noted with its line."""
    try:
        return tomllib.loads(text.decode("utf-8").replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.add(name, error)
        return {}


def read_toml(name: str, folder: Path | None, problems: Problems) -> dict[str, Any]:
    """The tables of ``name`` in ``folder`` (none when it has no such file), or of the built-in file if no folder."""
    try:
        return parse_toml(name, read_file(name, folder), problems)
    except OSError as error:
        problems.add(name, error)
        return {}


def read_table(kind: type[T], table: object, where: str, problems: Problems) -> T | None:
    """``table`` as ``kind`` (a msgspec Struct); None when something in it is wrong, every key's mistake then noted."""
    if not isinstance(table, dict):
        problems.add(where, f"a table is needed here, not {type(table).__name__}")
        return None
    before = len(problems.found)
    values: dict[str, Any] = {}
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in table.keys() - fields.keys():
        problems.add(f"{where}.{key}", f"unknown key; there are {', '.join(fields)}")
    for key, field in fields.items():
        if key not in table:
            if field.required:
                problems.add(f"{where}.{key}", "is missing")
            continue
        try:
            values[field.name] = msgspec.convert(table[key], field.type)
        except msgspec.ValidationError as error:
            problems.add(f"{where}.{key}", error)
    return kind(**values) if len(problems.found) == before else None


def read_tables(kind: type[T], tables: object, where: str, problems: Problems, *, name: str) -> list[tuple[str, T]]:
    """Every table of an array as (its place in words, value); places are told by their key ``name``."""
    if not isinstance(tables, list):
        problems.add(where, "an array of tables is needed here, written [[…]]")
        return []
    read: list[tuple[str, T]] = []
    seen: set[object] = set()
    for number, table in enumerate(tables, 1):
        label = table.get(name) if isinstance(table, dict) else None
        known = label if isinstance(label, str) else number
        place = f"{where}[{known}]"
        if known in seen:
            problems.add(place, f"{name} is used twice")
        seen.add(known)
        value = read_table(kind, table, place, problems)
        if value is not None:
            read.append((place, value))
    return read


def only(tables: dict[str, Any], allowed: set[str], file: str, problems: Problems) -> None:
    """Note tables that a file may not have."""
    for key in sorted(tables.keys() - allowed):
        problems.add(f"{file}: {key}", f"unknown table; there are {', '.join(sorted(allowed))}")
