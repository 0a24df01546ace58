"""How long each ready-made query takes over many outcomes, and in how much memory (G6).

Fills the embedded ClickHouse with generated outcomes (``outcomes_rows.sql``), through the same rollups that a running
Sluice fills, then asks every ready-made query over all of it. ``--data`` keeps the rows, so that filling can be done in
portions (``--fill-seconds``) and asking repeated.

    .venv/bin/python benchmarks/outcomes.py --rows 100000000
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import RESULTS, keep, this_machine  # noqa: E402

from sluice.adapters.clickhouse import migrations  # noqa: E402
from sluice.adapters.clickhouse.client import ClickHouse, Target  # noqa: E402
from sluice.adapters.clickhouse.ready_made import ReadyMade, ask, ready_made  # noqa: E402
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse  # noqa: E402
from sluice.local.cpu import cpu_seconds  # noqa: E402

DAYS = 30
OUTCOMES_PER_MAIL = 3.143
"""Of the generator's fates, in the mean."""
CHUNK = 500_000
"""Mails of one statement."""
ROWS_SQL = Path(__file__).with_name("outcomes_rows.sql")
TIMES = 7
LONG_ENOUGH_S = 10.0
"""What has taken so long is not asked again."""


class Filled(msgspec.Struct, frozen=True):
    """What lies in a data folder: ``mails`` of ``of`` that end at ``end`` (seconds since the epoch)."""

    of: int
    end: int
    mails: int = 0
    seconds: float = 0.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query over all days: seconds of the first time, of the median and of the least, and the most memory in MiB.

    ``cpu_s`` is the server's processor time for one, which says more than the clock where others want the cores too.
    """

    query: str
    reads: str
    rows: int
    first_s: float
    median_s: float
    least_s: float
    cpu_s: float
    memory_mib: float


class Size(msgspec.Struct, frozen=True):
    """A table's rows, and bytes on disk."""

    table: str
    rows: int
    bytes: int


def main() -> None:
    """Fill, ask, and keep the figures."""
    given = arguments()
    folder = given.data or Path(tempfile.mkdtemp(prefix="outcomes-", dir=given.scratch))
    folder.mkdir(parents=True, exist_ok=True)
    machine = this_machine()
    try:
        with EmbeddedClickHouse.on_free_port(folder / "clickhouse") as server:
            clickhouse = ClickHouse(Target(server.url, database="outcomes", timeout=3600))
            migrations.apply(clickhouse)
            filled = fill(clickhouse, folder, given.rows, given.fill_seconds)
            if filled.mails < filled.of and not given.as_it_is:
                print(f"{filled.mails:,} of {filled.of:,} mails are there; run it again to go on")
                return
            settle(clickhouse)
            figures = measure(clickhouse, server.pid or 0, filled)
        print(f"kept in {keep(given.into, 'outcomes', machine, figures)}")
    finally:
        if given.data is None:
            shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    """What is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="outcomes (10,000,000); 100,000,000 is the goal's")
    parser.add_argument("--data", type=Path, help="keep the rows in this folder, or take them from there")
    parser.add_argument("--fill-seconds", type=float, default=float("inf"), help="stop filling after so long")
    parser.add_argument("--as-it-is", action="store_true", help="ask over what there is, though it is not all")
    parser.add_argument("--scratch", type=Path, default=None, help="where a folder that is not kept is made")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args()


def fill(clickhouse: ClickHouse, folder: Path, rows: int, seconds: float) -> Filled:
    """Go on with filling where it ended, for at most ``seconds``."""
    note = folder / "filled.json"
    if note.exists():
        filled = msgspec.json.decode(note.read_bytes(), type=Filled)
    else:
        filled = Filled(round(rows / OUTCOMES_PER_MAIL), int(time.time()))
    began = time.monotonic()
    step = DAYS * 86_400_000 / filled.of
    while filled.mails < filled.of and time.monotonic() - began < seconds:
        at = time.monotonic()
        many = min(CHUNK, filled.of - filled.mails)
        text = {
            "database": clickhouse.database, "first": str(filled.mails), "mails": str(many), "step": f"{step:.6f}",
            "start": str((filled.end - DAYS * 86_400) * 1000),
        }  # fmt: skip
        clickhouse.command(_filled_in(ROWS_SQL.read_text(encoding="utf-8"), text))
        spent = filled.seconds + time.monotonic() - at
        filled = msgspec.structs.replace(filled, mails=filled.mails + many, seconds=round(spent, 1))
        note.write_bytes(msgspec.json.encode(filled))
        print(f"{filled.mails:,} mails in {filled.seconds:.0f} s", flush=True)
    return filled


def settle(clickhouse: ClickHouse) -> None:
    """Wait until no merge is under way, so that what is measured does not depend on when it was filled."""
    while clickhouse.rows("SELECT count() AS n FROM system.merges")[0]["n"]:
        time.sleep(1)


def measure(clickhouse: ClickHouse, pid: int, filled: Filled) -> dict[str, Any]:
    """Ask everything over all days, and print it."""
    begin = datetime.fromtimestamp(filled.end, UTC) - timedelta(days=DAYS)
    end = begin + timedelta(days=DAYS * filled.mails / filled.of)
    span = {"since": begin.isoformat(), "until": end.isoformat()}
    asked = []
    for query in ready_made().values():
        given = {p.name: span[p.name] for p in query.parameters if p.name in span}
        if query.name == "variants":
            given["campaign"] = _tested(clickhouse)
        asked.append(time_query(clickhouse, pid, query, query.values(given, end)))
    asked += [time_query(clickhouse, pid, query, {}) for query in extra()]
    for one in asked:
        times = f"{one.median_s:8.3f} s {one.least_s:8.3f} s {one.cpu_s:8.3f} s CPU"
        print(f"{one.query:32} {times} {one.memory_mib:8.0f} MiB {one.rows:6} rows")
    sizes = [
        Size(row["name"], row["rows"], row["bytes"])
        for row in clickhouse.rows(
            "SELECT table AS name, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts "
            "WHERE active AND database = {database:String} GROUP BY name ORDER BY bytes DESC",
            {"database": clickhouse.database},
        )
    ]
    for size in sizes:
        print(f"{size.table:20} {size.rows:13,} rows {size.bytes / 1e6:10,.1f} MB")
    return {
        "outcomes": next(size.rows for size in sizes if size.table == "outcomes"),
        "mails": filled.mails,
        "days": round((end - begin) / timedelta(days=1), 1),
        "filled_s": filled.seconds,
        "clickhouse": clickhouse.version(),
        "queries": asked,
        "tables": sizes,
    }


def extra() -> list[ReadyMade]:
    """What is asked of single mails, beside the ready-made queries."""
    empty: dict[str, Any] = {"about": "", "parameters": (), "columns": (), "plot": ((), "")}
    return [
        ReadyMade(
            name="one mail's state", title="", reads=("mail_state",), **empty,
            sql="SELECT state FROM {database}.mail_state WHERE message_id = "
            "(SELECT message_id FROM {database}.mails LIMIT 1 OFFSET 12345)",
        ),
        ReadyMade(
            name="states of one tenant of sixty", title="", reads=("mail_state",), **empty,
            sql="SELECT state, count() FROM {database}.mail_state WHERE tenant_id = 'tenant30' GROUP BY state",
        ),
        ReadyMade(
            name="states of all mails", title="", reads=("mail_state",), **empty,
            sql="SELECT state, count() FROM {database}.mail_state GROUP BY state",
        ),
    ]  # fmt: skip


def time_query(clickhouse: ClickHouse, pid: int, query: ReadyMade, values: Mapping[str, Any]) -> Asked:
    """Ask ``TIMES`` times; memory as the server counts it for the query, read while it runs."""
    taken: list[float] = []
    used: list[float] = []
    peak = _Peak(clickhouse)
    rows: list[Any] = []
    with peak:
        while len(taken) < TIMES and sum(taken) < LONG_ENOUGH_S:
            at, before = time.monotonic(), cpu_seconds(pid)
            rows = ask(clickhouse, query, values)
            taken.append(time.monotonic() - at)
            used.append(cpu_seconds(pid) - before)
    return Asked(
        query=query.name, reads=", ".join(query.reads), rows=len(rows), first_s=round(taken[0], 3),
        median_s=round(statistics.median(taken), 3), least_s=round(min(taken), 3),
        cpu_s=round(min(used), 3), memory_mib=round(peak.bytes / 2**20, 1),
    )  # fmt: skip


class _Peak:
    """Looks at the running queries every few milliseconds."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.bytes = 0
        self._clickhouse = ClickHouse(clickhouse.target)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._clickhouse.close()

    def _watch(self) -> None:
        sql = "SELECT max(peak_memory_usage) AS most FROM system.processes WHERE query NOT LIKE '%system.processes%'"
        while not self._stop.wait(0.02):
            self.bytes = max(self.bytes, self._clickhouse.rows(sql)[0]["most"] or 0)


def _tested(clickhouse: ClickHouse) -> str:
    """The campaign with variants that has the most mail."""
    rows = clickhouse.rows(
        f"SELECT campaign_id FROM {clickhouse.database}.outcomes_per_day WHERE variant != '' "
        "GROUP BY campaign_id ORDER BY sum(outcomes) DESC LIMIT 1"
    )
    return str(rows[0]["campaign_id"])


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


if __name__ == "__main__":
    main()
