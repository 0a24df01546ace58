"""Which ports a local stack listens on: chosen once, remembered in its folder, the same at the next start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from sluice.adapters.embedded.ports import PortTaken, ensure_free
from sluice.domain.errors import SluiceError

PREFERRED: dict[str, int] = {
    "kafka": 9092,
    "kafka-controller": 9192,
    "clickhouse": 8123,
    "mailbox": 2525,
    "mailbox-control": 2580,
}
"""The usual ports, below those that the system gives to outgoing connections."""
FIRST_HEALTH = 8600
WHAT = {
    "kafka": "Kafka",
    "kafka-controller": "Kafka's controller",
    "clickhouse": "ClickHouse",
    "mailbox": "the mailbox's SMTP",
    "mailbox-control": "the mailbox's control",
}


class PortsGone(SluiceError):
    """Another program took a port that this stack used before; the message says which, and the ways out."""


def choose_ports(file: Path, names: Iterable[str], *, first: int | None = None) -> dict[str, int]:
    """A port for each of ``names``: the one remembered in ``file``, else the preferred one, else the next free above.

    ``first`` replaces the preferred ports by those from it upwards. Writes what it chose. Raises :class:`PortsGone`
    when a remembered port is taken.
    """
    known = _read(file)
    chosen: dict[str, int] = {}
    for name in names:
        if name not in known:
            start = (PREFERRED.get(name, FIRST_HEALTH)) if first is None else first
            known[name] = _free_above(start, set(known.values()))
        else:
            _still_free(known[name], WHAT.get(name, name), file)
        chosen[name] = known[name]
    file.write_bytes(msgspec.json.format(msgspec.json.encode(known)))
    return chosen


def _read(file: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise SluiceError(f"{file} is damaged ({error}): remove it, and ports are chosen anew") from error


def _still_free(port: int, what: str, file: Path) -> None:
    try:
        ensure_free(port, what)
    except PortTaken as error:
        raise PortsGone(f"{error} Or use --new-ports, which chooses others and writes them to {file}.") from error


def _free_above(start: int, taken: set[int]) -> int:
    for port in range(start, 65_536):
        if port in taken:
            continue
        try:
            ensure_free(port, "a local part")
        except PortTaken:
            continue
        return port
    raise SluiceError(f"no port from {start} upwards is free")
