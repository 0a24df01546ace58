"""On what something was measured, and where the figures are kept."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from processor import Pace, pace

from sluice.local.cpu import cpu_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SCRATCH = ROOT / ".tools" / "bench"
F = TypeVar("F")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """``load_before`` is the load average of the minute before: above a few tenths, others were using the machine."""

    cores: int
    processor: str
    memory_gib: float
    system: str
    python: str
    commit: str
    load_before: float
    pace: Pace | None = None
    """None where it was not measured."""


class Measured(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """A file of results."""

    name: str
    date: str
    machine: Machine
    figures: F


def this_machine() -> Machine:
    """What runs this; call it before the measurement."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=cpu_model() or "unknown",
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        commit=_commit(),
        load_before=round(os.getloadavg()[0], 2),
        pace=pace(),
    )


def keep(folder: Path, name: str, machine: Machine, figures: object) -> Path:
    """Write ``DATE-NAME.json``, numbered when there is one of that day; returns its path."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{now:%Y-%m-%d}-{name}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{now:%Y-%m-%d}-{name}-{number}.json"
    result = Measured(name=name, date=now.isoformat(timespec="seconds"), machine=machine, figures=figures)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return path


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit} with changes" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
