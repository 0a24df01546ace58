"""How long urgent mail takes while bulk mail waits in line: ``python benchmarks/priority_latency.py``.

Times are from publish to the receiver's 250. First the rate at which this machine delivers is measured, then high
priority is published evenly: a few a second on an idle system, at half that rate with nothing else, and both again
while a backlog of bulk mail waits, which takes all that is left of the machine. What the backlog gets alone is measured
before, and what it gets beside urgent mail meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import msgspec
from harness import Sluice, four_kilobytes, percentile, say, told, with_sluice
from machine import RESULTS, keep, this_machine

WARM_UP = 40_000
"""Mails that are not looked at: a broker that has just been started is slow, and half of its rate would be no load. A
million waiting are no young broker's, so it is one that Java compiles for hours of work."""
SETTLE = 10.0
"""Seconds that a backlog is worked on before anything is looked at."""
ALONE = 10.0
"""Seconds that it is looked at before urgent mail comes."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """High-priority mails published at ``per_second``; times in milliseconds from publish to 250.

    ``composed`` are times from publish until composed, ``attempted`` until the attempt began, which is written down and
    acknowledged before the mail's content is sent.

    ``backlog_left`` are bulk mails not yet delivered when the last one was published: at 0 it was too small to tell.
    ``cpu`` is how many cores each process kept busy meanwhile.
    """

    name: str
    per_second: float
    mails: int
    p50: int
    p90: int
    p99: int
    slowest: int
    composed_p50: int
    composed_p99: int
    attempted_p50: int
    attempted_p99: int
    backlog_left: int
    bulk_per_second: float
    cpu: dict[str, float]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """All phases. ``capacity`` is in mails a second, of mail that was all published at once; ``bulk_alone`` is what the
    backlog is delivered at while nothing else comes."""

    backlog: int
    capacity: float
    bulk_alone: float
    phases: list[Phase]


class Plan(argparse.Namespace):
    """The options."""

    backlog: int
    seconds: float
    idle_rate: float
    load: float
    burst: int
    compose: int
    deliver: int
    results: Path


async def measure(plan: Plan, sluice: Sluice) -> Latency:
    """All phases on one stack."""
    say("warming up")
    await sluice.publish("warm-up", WARM_UP)
    await sluice.wait_for("warm-up", WARM_UP)
    began = await sluice.publish("burst", plan.burst)
    await sluice.wait_for("burst", plan.burst)
    capacity = plan.burst / (await sluice.last_stored("burst") - began)
    busy = capacity * plan.load
    say(f"{capacity:,.0f} mails/s; high priority at {plan.load:.0%} of it is {busy:,.0f}/s")
    phases = [
        await _phase(plan, sluice, "idle", plan.idle_rate),
        await _phase(plan, sluice, "half load, no backlog", busy),
    ]
    say(f"publishing a backlog of {plan.backlog:,}")
    await sluice.publish("backlog", plan.backlog, "bulk")
    await asyncio.sleep(SETTLE)
    bulk_alone = await _bulk_alone(sluice)
    phases.append(await _phase(plan, sluice, "few, with the backlog", plan.idle_rate))
    phases.append(await _phase(plan, sluice, "half load, with the backlog", busy))
    return Latency(backlog=plan.backlog, capacity=capacity, bulk_alone=bulk_alone, phases=phases)


async def _bulk_alone(sluice: Sluice) -> float:
    """Bulk mails a second."""
    before, began = await sluice.count("backlog"), time.monotonic()
    await asyncio.sleep(ALONE)
    rate = (await sluice.count("backlog") - before) / (time.monotonic() - began)
    say(f"the backlog alone: {rate:,.0f} mails/s")
    return rate


async def _phase(plan: Plan, sluice: Sluice, name: str, rate: float) -> Phase:
    campaign = name.replace(",", "").replace(" ", "-")
    bulk_before, used_before, began = await sluice.count("backlog"), sluice.cpu(), time.monotonic()
    count = await sluice.publish_evenly(campaign, rate, plan.seconds, "high")
    bulk_after, used, seconds = await sluice.count("backlog"), sluice.cpu(), time.monotonic() - began
    await sluice.wait_for(campaign, count, patience=60.0)
    took = await sluice.milliseconds(campaign)
    composed = await sluice.milliseconds(campaign, "composed")
    attempted = await sluice.milliseconds(campaign, "attempted")
    published = plan.backlog if "with the backlog" in name else 0
    phase = Phase(
        name=name,
        per_second=rate,
        mails=count,
        p50=percentile(took, 0.5),
        p90=percentile(took, 0.9),
        p99=percentile(took, 0.99),
        slowest=took[-1],
        composed_p50=percentile(composed, 0.5),
        composed_p99=percentile(composed, 0.99),
        attempted_p50=percentile(attempted, 0.5),
        attempted_p99=percentile(attempted, 0.99),
        backlog_left=max(0, published - bulk_after),
        bulk_per_second=(bulk_after - bulk_before) / seconds,
        cpu={process: round((used[process] - used_before[process]) / seconds, 3) for process in used},
    )
    busy = sum(phase.cpu.values())
    say(f"{name}: half within {phase.p50} ms, 99 % within {phase.p99} ms; {busy:.2f} cores in use")
    return phase


def table(latency: Latency) -> str:
    """Markdown."""
    idle = latency.phases[0]
    rates = (
        f"{latency.capacity:,.0f} mails/s when all is published at once; a backlog of {latency.backlog:,} bulk mails, "
        f"delivered at {latency.bulk_alone:,.0f}/s while nothing else comes."
    )
    names = (
        "high priority", "per second", "mails", "p50 ms", "p90", "p99", "p99 over idle", "composed p50", "p99",
        "attempted p50", "p99", "bulk/s", "cores",
    )  # fmt: skip
    lines = [rates, "", f"| {' | '.join(names)} |", f"|---|{'---:|' * (len(names) - 1)}"]
    for phase in latency.phases:
        spent = " (the backlog ran out)" if "with the backlog" in phase.name and not phase.backlog_left else ""
        lines.append(
            f"| {phase.name}{spent} | {phase.per_second:,.0f} | {phase.mails:,} | {phase.p50:,} | {phase.p90:,} | "
            f"{phase.p99:,} | {phase.p99 - idle.p99:+,} | {phase.composed_p50:,} | {phase.composed_p99:,} | "
            f"{phase.attempted_p50:,} | {phase.attempted_p99:,} | "
            f"{phase.bulk_per_second:,.0f} | {sum(phase.cpu.values()):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backlog", type=int, default=100_000, help="bulk mails that wait, up to a million (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=25.0, help="of each phase (%(default)s)")
    parser.add_argument(
        "--idle-rate", type=float, default=20.0, help="high priority when idle, per second (%(default)s)"
    )
    parser.add_argument("--load", type=float, default=0.5, help="share of the capacity that is high (%(default)s)")
    parser.add_argument("--burst", type=int, default=5_000, help="mails to measure the capacity by (%(default)s)")
    parser.add_argument("--compose", type=int, default=1, help="compose processes (%(default)s)")
    parser.add_argument("--deliver", type=int, default=1, help="deliver processes (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    plan = parser.parse_args(namespace=Plan())
    machine = this_machine()
    counts = {"compose": plan.compose, "deliver": plan.deliver}
    with told("priority_latency"):
        latency = with_sluice(
            lambda sluice: measure(plan, sluice), four_kilobytes(plan.backlog), counts=counts, lasting=True
        )
    path = keep(plan.results, "priority-latency", machine, latency)
    print(f"\n{table(latency)}\n\n{path}")


if __name__ == "__main__":
    main()
