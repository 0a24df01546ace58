"""Partitions are added and workers join while mail flows: ``python benchmarks/scaling.py``.

A whole Sluice runs on this machine with one deliver worker over 4 partitions of lanes. Mail comes steadily, half to
a site that allows less than what is sent to it. Then partitions become 12, and deliver workers three. The receiving
side counts: mails in all, the busiest second and the most connections of the limited site.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import msgspec
from machine import RESULTS, ROOT, keep, this_machine

sys.path.insert(0, str(ROOT))
from tests.support.counting_sink import CountingSink
from tests.support.stack import Stack, wait_for
from tests.support.workers import counting_sink, several_workers

from sluice.client import new_message_id
from sluice.domain.topics import Layout, topics
from sluice.runtime import wiring

DATA = ROOT / ".tools" / "scaling"
LIMITED = "limited.example"
RATE, BURST, CONNECTIONS, LANES = 40, 4, 6, 3
RULES = f"""
[[site]]
name = "limited"
domains = ["{LIMITED}"]
rate = "{RATE}/s,burst={BURST}"
connections = {CONNECTIONS}
lanes = {LANES}
"""
BEFORE, AFTER = 4, 12


class Phase(msgspec.Struct, frozen=True):
    """What the receiving side saw between two moments, seconds since the first mail."""

    name: str
    begins: float
    ends: float
    arrived: int
    limited_busiest_second: int
    workers: list[str]
    partitions: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run; ``more_than_once`` counts mails that came again."""

    published: int
    delivered: int
    arrived: int
    limited_rate: int
    limited_burst: int
    limited_busiest_second: int
    limited_connections: int
    limited_most_connections: int
    phases: list[Phase]

    @property
    def more_than_once(self) -> int:
        """Copies beyond the mails published."""
        return self.arrived - self.published


def publish(stack: Stack, ids: list[str], rate: float) -> None:
    """Evenly; half to the limited site."""
    began = time.monotonic()
    for number, each in enumerate(ids):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        domain = LIMITED if number % 2 else f"free{number % 40}.example"
        stack.client.submit(
            {
                "message_id": each,
                "tenant_id": "acme",
                "to": [{"email": f"u{number}@{domain}"}],
                "subject": "A story",
                "text": "Once upon a time.\n",
            }
        )
    assert stack.client.flush(60) == 0


def measure(stack: Stack, sink: CountingSink, rate: float, step: float) -> Figures:
    """The run on a stack of which one worker of each runs."""
    ids = [new_message_id() for _ in range(int(rate * step * 5))]
    began, marks = time.time(), [(0.0, f"1 worker, {BEFORE} partitions")]
    zero = time.monotonic()
    publishing = threading.Thread(target=publish, args=(stack, ids, rate))
    publishing.start()

    def mark(name: str) -> None:
        marks.append((time.monotonic() - zero, name))
        sys.stdout.write(f"{marks[-1][0]:5.0f} s  {name}\n")

    time.sleep(step)
    wiring.topic_admin(stack.local.settings).apply(topics(Layout(lane_partitions=AFTER)))
    mark(f"1 worker, {AFTER} partitions")
    time.sleep(step)
    stack.start("deliver-2")
    mark(f"2 workers, {AFTER} partitions")
    time.sleep(step)
    stack.start("deliver-3")
    mark(f"3 workers, {AFTER} partitions")
    publishing.join()
    mark("nothing new")
    wait_for(lambda: stack.equation(ids).delivered, lambda count: count == len(ids), 240, "all mails")
    marks.append((time.monotonic() - zero, ""))
    phases = [phase(stack, sink, name, began, zero, begins, ends) for (begins, name), (ends, _) in pairwise(marks)]
    return Figures(
        published=len(ids),
        delivered=stack.equation(ids).delivered,
        arrived=sum(at >= zero for at, _ in sink.mails),
        limited_rate=RATE,
        limited_burst=BURST,
        limited_busiest_second=sink.busiest_second(LIMITED),
        limited_connections=CONNECTIONS,
        limited_most_connections=sink.most_open(LIMITED),
        phases=phases,
    )


def phase(stack: Stack, sink: CountingSink, name: str, began: float, zero: float, begins: float, ends: float) -> Phase:
    """What came between two moments, and who sent it from which partitions."""
    times = [at - zero for at, _ in sink.mails]
    limited = sorted(at - zero for at, to in sink.mails if to == LIMITED and begins <= at - zero < ends)
    busiest = max((sum(at <= other < at + 1 for other in limited) for at in limited), default=0)
    rows = stack.query(
        "SELECT groupUniqArray(node) AS nodes, uniqExact(source_partition) AS partitions FROM {db}.outcomes WHERE "
        "event_type = 'delivered' AND event_time >= fromUnixTimestamp64Milli({a:Int64}) "
        "AND event_time < fromUnixTimestamp64Milli({b:Int64})",
        {"a": int((began + begins) * 1000), "b": int((began + ends) * 1000)},
    )
    return Phase(
        name,
        round(begins, 1),
        round(ends, 1),
        sum(begins <= at < ends for at in times),
        busiest,
        sorted(rows[0]["nodes"]),
        rows[0]["partitions"],
    )


def main() -> int:
    """Prints the table and keeps the figures; exit code 1 when a mail is missing or a limit did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=100.0, help="mails a second; half of them to the limited site")
    parser.add_argument("--step", type=float, default=12.0, help="seconds between one change and the next")
    parser.add_argument("--into", type=Path, default=RESULTS)
    options = parser.parse_args()
    machine = this_machine()
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    with counting_sink() as sink, several_workers(DATA, sink, deliver=3, sites=RULES) as stack:
        figures = measure(stack, sink, options.rate, options.step)
    for one in figures.phases:
        sys.stdout.write(
            f"| {one.name} | {one.begins:.0f} to {one.ends:.0f} s | {one.arrived / (one.ends - one.begins):.0f}/s "
            f"| {one.limited_busiest_second} | {', '.join(one.workers)} | {one.partitions} |\n"
        )
    sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(figures), indent=1).decode()}\n")
    sys.stdout.write(f"kept in {keep(options.into, 'scaling', machine, figures)}\n")
    held = (
        figures.limited_busiest_second <= RATE + BURST + LANES
        and figures.limited_most_connections <= CONNECTIONS
        and figures.delivered == figures.published
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
