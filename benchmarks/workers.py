"""Mails a second against the number of worker processes: ``python benchmarks/workers.py``.

End to end with one or two of each; then each stage alone, its input waiting in Kafka or coming as fast as it can, the
other stage not running. A stage's rate is that of the middle eight tenths of its mails, which leaves out starting and
running dry. Where processes outnumber cores, more of them cannot add to the rate; CPU per mail tells then.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from harness import Look, Sluice, Stuck, four_kilobytes, per_mail, say, told, with_sluice
from machine import RESULTS, keep, this_machine

from sluice.local.bench import Load


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. ``stage`` is ``all``, ``compose`` or ``deliver``."""

    stage: str
    compose: int
    deliver: int
    mails: int
    mails_per_second: float
    cpu_ms_per_mail: dict[str, float]

    @property
    def workers_cpu(self) -> float:
        """CPU milliseconds per mail of compose and deliver processes together."""
        return sum(used for name, used in self.cpu_ms_per_mail.items() if name.startswith(("compose", "deliver")))

    @property
    def cores(self) -> float:
        """Cores that all processes kept busy, load generator and receiver included."""
        return self.mails_per_second * sum(self.cpu_ms_per_mail.values()) / 1000


def end_to_end(load: Load, warm_up: int, compose: int, deliver: int) -> Rate:
    """All of it, from the first publish to the last outcome in ClickHouse."""

    async def work(sluice: Sluice) -> Rate:
        await sluice.publish("warm-up", warm_up)
        await sluice.wait_for("warm-up", warm_up)
        before = sluice.cpu()
        began = await sluice.publish("measured", load.mails)
        await sluice.wait_for("measured", load.mails)
        took = await sluice.last_stored("measured") - began
        return Rate(
            stage="all",
            compose=compose,
            deliver=deliver,
            mails=load.mails,
            mails_per_second=load.mails / took,
            cpu_ms_per_mail=per_mail(before, sluice.cpu(), load.mails),
        )

    return with_sluice(work, load, counts={"compose": compose, "deliver": deliver})


def compose_alone(load: Load, processes: int) -> Rate:
    """From send events to composed mails in Kafka."""

    async def work(sluice: Sluice) -> Rate:
        await sluice.publish("stage", load.mails)
        looks = await sluice.wait_for("stage", load.mails, "composed")
        return _stage("compose", processes, await sluice.moments("stage", "composed"), looks)

    return with_sluice(work, load, counts={"compose": processes, "deliver": 0, "wheel": 0})


def deliver_alone(load: Load, processes: int) -> Rate:
    """From composed mails in Kafka to 250."""

    async def fill(sluice: Sluice) -> None:
        await sluice.publish("stage", load.mails)
        await sluice.wait_for("stage", load.mails, "composed")

    async def work(sluice: Sluice) -> Rate:
        looks = await sluice.wait_for("stage", load.mails)
        return _stage("deliver", processes, await sluice.moments("stage"), looks)

    with_sluice(fill, load, counts={"compose": 1, "deliver": 0, "wheel": 0})
    # With a wheel: what deliver puts off while it starts comes back.
    return with_sluice(work, load, counts={"compose": 0, "deliver": processes}, fresh=False)


def _stage(name: str, processes: int, moments: list[float], looks: list[Look]) -> Rate:
    low, high = len(moments) // 10, len(moments) * 9 // 10
    # Outcomes come to ClickHouse late and in batches: mails are counted by their own times, CPU by those of the looks.
    within = [look for look in looks if moments[low] <= look.at <= moments[high]]
    first, last = (within[0], within[-1]) if len(within) > 2 else (looks[0], looks[-1])
    mails = bisect(moments, last.at) - bisect(moments, first.at)
    return Rate(
        stage=name,
        compose=processes if name == "compose" else 0,
        deliver=processes if name == "deliver" else 0,
        mails=len(moments),
        mails_per_second=(high - low) / max(0.001, moments[high] - moments[low]),
        cpu_ms_per_mail=per_mail(first.cpu, last.cpu, max(1, mails)),
    )


def table(rates: list[Rate]) -> str:
    """Markdown."""
    first: dict[str, float] = {}
    lines = [
        "| stage | compose | deliver | mails/s | of the first | cores | CPU ms per mail of the workers | by process |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for rate in rates:
        base = first.setdefault(rate.stage, rate.mails_per_second)
        parts = ", ".join(f"{name} {used:.2f}" for name, used in rate.cpu_ms_per_mail.items())
        lines.append(
            f"| {rate.stage} | {rate.compose or '–'} | {rate.deliver or '–'} | {rate.mails_per_second:,.0f} | "
            f"{rate.mails_per_second / base:.2f} | {rate.cores:.2f} | {rate.workers_cpu:.2f} | {parts} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=10_000, help="per measurement (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=1_000, help="sent before, not measured (%(default)s)")
    parser.add_argument("--most", type=int, default=2, help="most processes of a stage (%(default)s)")
    parser.add_argument("--stages", default="all,compose,deliver", help="which to measure (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    load, stages, most = four_kilobytes(options.mails), options.stages.split(","), range(1, options.most + 1)
    machine = this_machine()
    rates: list[Rate] = []

    measurements: list[Callable[[], Rate]] = []
    if "all" in stages:
        measurements += [
            partial(end_to_end, load, options.warm_up, compose, deliver) for compose in most for deliver in most
        ]
    if "compose" in stages:
        measurements += [partial(compose_alone, load, processes) for processes in most]
    if "deliver" in stages:
        measurements += [partial(deliver_alone, load, processes) for processes in most]
    stuck = 0
    with told("workers"):
        for measure in measurements:
            try:
                rate = measure()
            except Stuck as error:
                say(f"not measured: {error}")
                stuck += 1
            else:
                rates.append(rate)
                what = f"{rate.stage}, {rate.compose} compose, {rate.deliver} deliver"
                say(f"{what}: {rate.mails_per_second:,.0f} mails/s")
    path = keep(options.results, "workers", machine, rates)
    print(f"\n{table(rates)}\n\n{path}")
    if stuck:
        sys.exit(f"workers: {stuck} of {len(measurements)} not measured: see above")


if __name__ == "__main__":
    main()
