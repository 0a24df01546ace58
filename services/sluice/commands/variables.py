"""Template variables from options and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sluice.commands.failures import WrongUsage

Variables = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="A variable, as JSON or text. Repeat."),
]
VariablesFile = Annotated[Path | None, typer.Option("--vars", metavar="FILE", help="JSON object of variables.")]


def read_variables(given: Sequence[str] | None, file: Path | None) -> dict[str, Any]:
    """The file's variables, and over them those given one by one; raises :class:`WrongUsage`."""
    found: dict[str, Any] = {}
    if file is not None:
        try:
            found = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise WrongUsage(f"--vars: {file}: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise WrongUsage(f"--vars: {file}: expected a JSON object: {error}") from error
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise WrongUsage(f"--var: {text!r}: write NAME=VALUE")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """Numbers, true, false, lists and objects as such; anything else as text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
