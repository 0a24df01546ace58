"""JSON documents from files: one object, a list of them, or JSON Lines; from folders, every ``*.json`` in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.domain.errors import SluiceError
from sluice.domain.events import locate

Files = Annotated[
    list[Path],
    typer.Argument(help="JSON or JSON Lines files, folders of them, or - for standard input.", metavar="FILE..."),
]

T = TypeVar("T")


def read_documents(paths: Iterable[Path]) -> list[tuple[str, dict[str, Any]]]:
    """Every object, with where it stands (``file``, ``file:3``).

    Raises :class:`WrongUsage` for a file that cannot be read, :class:`SluiceError` for one that is not JSON objects.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for path in _files(paths):
        shown = "standard input" if path is None else str(path)
        found += _objects(shown, _content(path))
    if not found:
        raise WrongUsage("there is no document in what was given")
    return found


def convert(documents: Iterable[tuple[str, dict[str, Any]]], kind: type[T]) -> list[tuple[str, T]]:
    """Each as ``kind``; raises :class:`SluiceError` with everything wrong in all of them."""
    made: list[tuple[str, T]] = []
    problems: list[str] = []
    for place, document in documents:
        try:
            made.append((place, msgspec.convert(document, kind)))
        except msgspec.ValidationError as error:
            field, reason = locate(str(error))
            problems.append(f"{place}: {field}: {reason}")
    refuse(problems)
    return made


def refuse(problems: list[str]) -> None:
    """Raise :class:`SluiceError` when there are any."""
    if problems:
        raise SluiceError("nothing was pushed:\n  " + "\n  ".join(problems))


def _files(paths: Iterable[Path]) -> Iterator[Path | None]:
    for path in paths:
        if str(path) == "-":
            yield None
        elif path.is_dir():
            yield from sorted(path.glob("*.json"))
        else:
            yield path


def _content(path: Path | None) -> bytes:
    if path is None:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from error


def _objects(place: str, content: bytes) -> list[tuple[str, dict[str, Any]]]:
    try:
        whole = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        lines = content.splitlines()
        if len(lines) < 2 or not lines[0].rstrip().endswith(b"}"):
            raise SluiceError(f"{place}: not JSON: {error}") from error
        return [
            entry
            for number, line in enumerate(lines, 1)
            if line.strip()
            for entry in _objects(f"{place}:{number}", line)
        ]
    entries = whole if isinstance(whole, list) else [whole]
    if not all(isinstance(entry, dict) for entry in entries):
        raise SluiceError(f"{place}: expected a JSON object, or a list of them")
    return [(place if len(entries) == 1 else f"{place}[{n}]", entry) for n, entry in enumerate(entries)]
