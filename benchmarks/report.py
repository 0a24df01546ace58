"""Results as Markdown: ``python benchmarks/report.py [--into docs/performance.md] [--ratios README.md]``.

The newest file of each benchmark in ``benchmarks/results``. With ``--into``, what stands between the two lines
``<!-- results -->`` and ``<!-- end of results -->`` of that file is replaced; with ``--ratios`` the same, by how the
rates of one comparison stand to each other.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparison
import memory
import msgspec
import priority_latency
import workers
from machine import RESULTS, Measured

NOTHING = "Nothing has been measured yet."
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
KINDS: dict[str, tuple[str, Any, Callable[[Any], str]]] = {
    "compare": ("Sluice and others", Measured[comparison.Comparison], comparison.table),
    "workers": ("Processes", Measured[list[workers.Rate]], workers.table),
    "priority-latency": ("Urgent mail under a backlog", Measured[priority_latency.Latency], priority_latency.table),
    "memory": ("Memory", Measured[list[memory.Memory]], memory.table),
}


def report(folder: Path) -> str:
    """All that there is, newest of each kind."""
    parts = []
    for name, (title, kind, table) in KINDS.items():
        newest = _newest(folder, name)
        if newest is None:
            continue
        measured: Measured[Any] = msgspec.json.decode(newest.read_bytes(), type=kind)
        parts.append(f"### {title}\n\n{table(measured.figures)}\n\n{_where(measured)} (`{newest.name}`)\n")
    return "\n".join(parts) or f"{NOTHING}\n"


def told_ratios(folder: Path) -> str:
    """The newest comparison in a sentence, and where it was made."""
    newest = _newest(folder, "compare")
    if newest is None:
        return f"{NOTHING}\n"
    measured = msgspec.json.decode(newest.read_bytes(), type=Measured[comparison.Comparison])
    taken = Counter((each.system, each.variant) for each in measured.figures.rounds)
    rounds = min(taken.values())
    of = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    return f"{comparison.ratios(measured.figures)} {of}, {_where(measured)}.\n"


def _where(measured: Measured[Any]) -> str:
    machine = measured.machine
    pace = f"; {machine.pace}" if machine.pace else ""
    return (
        f"{measured.date[:10]}, commit {machine.commit}, {machine.cores} cores of {machine.processor}, "
        f"{machine.memory_gib:g} GiB, Python {machine.python}, {machine.system}, "
        f"load before {machine.load_before:g}{pace}"
    )


def _newest(folder: Path, name: str) -> Path | None:
    dated = [(path.read_bytes(), path) for path in folder.glob(f"*-{name}*.json")]
    found = [(msgspec.json.decode(data, type=Measured[Any]).date, path) for data, path in dated]
    return max(found)[1] if found else None


def _put(text: str, into: Path) -> None:
    before, begun, rest = into.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        sys.exit(f"report: {into} lacks the lines {BEGIN.strip()} and {END.strip()}")
    into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    """Print, or put into documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--into", type=Path, help="document to put them into")
    parser.add_argument("--ratios", type=Path, help="document to put the ratios of the comparison into")
    options = parser.parse_args()
    if options.into is None and options.ratios is None:
        print(report(options.results), end="")
    if options.into is not None:
        _put(report(options.results), options.into)
    if options.ratios is not None:
        _put(told_ratios(options.results), options.ratios)


if __name__ == "__main__":
    main()
