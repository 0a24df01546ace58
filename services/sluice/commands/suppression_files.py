"""Suppressions from files of other systems: CSV, JSON Lines, or bare addresses."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from sluice.commands.failures import WrongUsage
from sluice.domain.addresses import parse_address
from sluice.domain.errors import Refused, SluiceError
from sluice.domain.events import locate
from sluice.domain.reference import Suppression

FIELDS = ("tenant_id", "email", "reason", "stream", "created_at", "expires_at")
SHOWN = 20
"""Problems named before the rest is only counted."""


def read_suppressions(
    file: Path, *, tenant: str | None, reason: str, stream: str | None, expires_at: datetime | None, now: datetime
) -> list[Suppression]:
    """Every row, completed by the given values where it says nothing itself.

    Raises :class:`WrongUsage` when the file cannot be read, :class:`SluiceError` naming the lines that are wrong.
    """
    given = {"tenant_id": tenant, "reason": reason, "stream": stream, "created_at": now, "expires_at": expires_at}
    found: list[Suppression] = []
    problems: list[str] = []
    for line, row in _rows(_text(file)):
        named = {key: value for key, value in row.items() if key in FIELDS and value not in (None, "")}
        try:
            found.append(_suppression({**given, **named}))
        except Refused as error:
            problems.append(f"line {line}: {error.field}: {error.reason}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        raise SluiceError("nothing was imported:\n  " + "\n  ".join(problems[:SHOWN]) + more)
    if not found:
        raise WrongUsage(f"{file}: there is no address in it")
    return found


def _suppression(values: dict[str, Any]) -> Suppression:
    if values["tenant_id"] is None:
        raise Refused("tenant_id", "neither the row nor --tenant names a tenant")
    if values["stream"] not in (None, "transactional", "broadcast"):
        raise Refused("stream", "is transactional, broadcast or empty")
    try:
        entry = msgspec.convert(values, Suppression)
    except msgspec.ValidationError as error:
        raise Refused(*locate(str(error))) from error
    return msgspec.structs.replace(entry, email=parse_address(entry.email, "email").addr_spec)


def _text(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongUsage(f"{file}: not UTF-8, from byte {error.start}") from error


def _rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and named values of each row."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if first.startswith("{"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _decoded(line, number)
    elif "email" in (name.strip().lower() for name in first.split(",")):
        reader = csv.DictReader(io.StringIO(text.lstrip()), skipinitialspace=True)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if isinstance(name, str)}
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield number, {"email": line.strip()}


def _decoded(line: str, number: int) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise SluiceError(f"line {number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise SluiceError(f"line {number}: expected a JSON object")
    return row
