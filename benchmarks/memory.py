"""Memory of each process against the number of mails that wait: ``python benchmarks/memory.py``.

For each size of backlog a new stack is started and the backlog published at once; then resident memory is read every
half second. Twice: ``draining``, where mail goes out as fast as it can, and ``held``, where every site takes one mail a
second, so that nearly all of it waits: in Kafka, in lanes and in the wheel.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import msgspec
from harness import Sluice, four_kilobytes, say, told, with_sluice
from machine import RESULTS, keep, this_machine
from processes import MIB

from sluice.local.bench import RULES

HELD = '[default]\nrate = "1/s"\nconnections = 4\nmails_per_connection = 1000\nconnect_rate = "unlimited"\n'
SAMPLE_EVERY = 0.5
WARM_UP = 500


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """MiB resident by process: when warm and idle, at most, and at the end."""

    mode: str
    backlog: int
    delivered: int
    seconds: float
    idle: dict[str, float]
    peak: dict[str, float]
    at_end: dict[str, float]


def measure(mode: str, backlog: int, seconds: float) -> Memory:
    """One backlog, on a stack of its own."""
    load = four_kilobytes(backlog)

    async def work(sluice: Sluice) -> Memory:
        await sluice.publish("warm-up", WARM_UP)
        if mode == "draining":
            await sluice.wait_for("warm-up", WARM_UP)
        else:
            await sluice.wait_for("warm-up", WARM_UP, "composed")
        idle = peak = last = sluice.memory()
        publishing = asyncio.create_task(sluice.publish("backlog", backlog, "bulk"))
        began, shown_at, delivered = time.monotonic(), time.monotonic(), 0
        while time.monotonic() - began < seconds and delivered < backlog:
            last = sluice.memory()
            peak = {name: max(peak.get(name, 0), used) for name, used in last.items()}
            if time.monotonic() - shown_at > 5:
                shown_at, delivered = time.monotonic(), await sluice.count("backlog")
                shown = ", ".join(f"{name} {used / MIB:.0f}" for name, used in last.items())
                say(f"  {delivered:,} of {backlog:,} delivered; MiB: {shown}")
            await asyncio.sleep(SAMPLE_EVERY)
        await publishing
        return Memory(
            mode=mode,
            backlog=backlog,
            delivered=await sluice.count("backlog"),
            seconds=time.monotonic() - began,
            idle=_mib(idle),
            peak=_mib(peak),
            at_end=_mib(last),
        )

    with tempfile.TemporaryDirectory() as folder:
        rules = RULES
        if mode == "held":
            rules = Path(folder)
            (rules / "sites.toml").write_text(HELD)
        return with_sluice(work, load, counts={"compose": 1, "deliver": 1}, rules=rules)


def _mib(used: dict[str, int]) -> dict[str, float]:
    return {name: round(size / MIB, 1) for name, size in used.items()}


def table(found: list[Memory]) -> str:
    """Markdown: peaks by process."""
    names = [name for name in found[0].peak if name[-1].isdigit()] if found else []
    lines = [
        f"| MiB at most | backlog | delivered meanwhile | {' | '.join(names)} |",
        f"|---|---:|---:|{'---:|' * len(names)}",
    ]
    lines += [
        f"| {one.mode} | {one.backlog:,} | {one.delivered:,} in {one.seconds:.0f} s | "
        + " | ".join(f"{one.peak.get(name, 0):.0f} (idle {one.idle.get(name, 0):.0f})" for name in names)
        + " |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlogs", default="10000,100000", help="numbers of mails (%(default)s)")
    parser.add_argument("--modes", default="draining,held", help="which of the two (%(default)s)")
    parser.add_argument("--seconds", type=float, default=75.0, help="at most, of each measurement (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    machine = this_machine()
    found: list[Memory] = []
    with told("memory"):
        for mode in options.modes.split(","):
            for backlog in map(int, options.backlogs.split(",")):
                say(f"{mode}, {backlog:,} mails")
                found.append(measure(mode, backlog, options.seconds))
    path = keep(options.results, "memory", machine, found)
    print(f"\n{table(found)}\n\n{path}")


if __name__ == "__main__":
    main()
