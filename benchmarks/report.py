"""Results as Markdown: ``python benchmarks/report.py [--into docs/performance.md]``.

The newest file of each benchmark in ``benchmarks/results``. With ``--into``, what stands between the two lines
``<!-- results -->`` and ``<!-- end of results -->`` of that file is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparison
import memory
import msgspec
import priority_latency
import workers
from machine import RESULTS, Measured

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
        machine = measured.machine
        where = (
            f"{measured.date[:10]}, commit {machine.commit}, {machine.cores} cores of {machine.processor}, "
            f"{machine.memory_gib:g} GiB, Python {machine.python}, {machine.system}, "
            f"load before {machine.load_before:g}"
        )
        parts.append(f"### {title}\n\n{table(measured.figures)}\n\n{where} (`{newest.name}`)\n")
    return "\n".join(parts) or "Nothing has been measured yet.\n"


def _newest(folder: Path, name: str) -> Path | None:
    dated = [(path.read_bytes(), path) for path in folder.glob(f"*-{name}*.json")]
    found = [(msgspec.json.decode(data, type=Measured[Any]).date, path) for data, path in dated]
    return max(found)[1] if found else None


def main() -> int:
    """Print, or put into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--into", type=Path, help="document to put them into")
    options = parser.parse_args()
    text = report(options.results)
    if options.into is None:
        print(text, end="")
        return 0
    before, begun, rest = options.into.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        print(f"report: {options.into} lacks the lines {BEGIN.strip()} and {END.strip()}", file=sys.stderr)
        return 1
    options.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
