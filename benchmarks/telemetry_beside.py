"""What telemetry costs a worker, from one that runs beside it: ``python benchmarks/telemetry_beside.py``.

Two composes and two delivers share one load, one of each with telemetry and one without, so that whatever else the
machine does hits both alike; the CPU of each is divided by the mails that it handled itself. They join in turns, and so
change partitions every round. With: ``/metrics`` is asked for once in ``--scrape-every`` seconds, and traces and
metrics go by OTLP, at default settings, to a collector's stand-in. Without: nobody asks, nothing is sent.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path

import msgspec
from harness import four_kilobytes, say
from machine import RESULTS, SCRATCH, keep, this_machine
from telemetry_pipeline import PARTS, Scraper, Stack, collector, through

from sluice.local.bench import RULES, Load, bench_reference
from sluice.local.cpu import cpu_seconds
from sluice.local.options import Options
from sluice.local.stack import plan

DATA = SCRATCH / "run" / "telemetry-beside"
HANDLED = {"compose": "composed", "deliver": "delivered"}
"""Which outcome tells that a worker of a service has handled a mail."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """By service: milliseconds of CPU for each mail of the worker without and of the one with telemetry."""

    without_ms: dict[str, float]
    with_ms: dict[str, float]
    mails: dict[str, int]
    """That each worker handled, by its name."""

    @property
    def more(self) -> float:
        """What telemetry adds to a mail's way through both services, as a share."""
        return sum(self.with_ms.values()) / sum(self.without_ms.values()) - 1


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds. ``more`` is the mean of their shares, ``error`` its standard error."""

    mails: int
    scrape_every: float
    rounds: list[Round]
    more: float
    error: float


class Plan(argparse.Namespace):
    """The options."""

    mails: int
    rounds: int
    scrape_every: float
    results: Path


class Workers:
    """Two of each service, the first with telemetry, the second without."""

    def __init__(self, load: Load, port: int, scrape_every: float) -> None:
        shutil.rmtree(DATA, ignore_errors=True)
        self._load = load
        self._scrape_every = scrape_every
        self._silent = self._stack({"OTEL_SDK_DISABLED": "true"})
        self._telling = self._stack({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"})

    def _stack(self, environment: dict[str, str]) -> Stack:
        options = Options(
            data=DATA, sink="fast", rules=RULES, examples=True, first_port=23_000, environment=environment,
            counts=dict.fromkeys(HANDLED, 2),
        )  # fmt: skip
        return Stack(plan(options, bench_reference(self._load), say=say))

    def start(self) -> None:
        """All that is measured nothing of."""
        self._silent.start(*PARTS, timeout=180)
        self._silent.start("wheel-1", "record-1")

    def close(self) -> None:
        """End everything."""
        for stack in (self._telling, self._silent):
            stack.close()

    def round(self, number: int, mails: int) -> Round:
        """Start the workers, warm them up, measure, stop them."""
        told = [f"{service}-1" for service in HANDLED]
        stacks = dict.fromkeys(told, self._telling) | {f"{service}-2": self._silent for service in HANDLED}
        # Who joins first gets other partitions, with more mail or less, and mails are cheaper by the dozen.
        for name, stack in sorted(stacks.items(), reverse=bool(number % 2)):
            stack.start(name)
        urls = [self._telling.local.health_urls()[name].replace("/readyz", "/metrics") for name in told]
        campaign = f"measured-{number}"
        with Scraper(urls, self._scrape_every):
            through(self._silent, self._load, f"warm-up-{number}", mails // 4)
            before = {name: cpu_seconds(stack.pid(name)) for name, stack in stacks.items()}
            through(self._silent, self._load, campaign, mails)
            used = {name: cpu_seconds(stack.pid(name)) - before[name] for name, stack in stacks.items()}
        handled = {name: self._handled(name, campaign) for name in stacks}
        for name, stack in stacks.items():
            stack.stop(name)
        each = {name: round(used[name] * 1000 / handled[name], 4) for name in stacks}
        return Round(
            without_ms={service: each[f"{service}-2"] for service in HANDLED},
            with_ms={service: each[f"{service}-1"] for service in HANDLED},
            mails=handled,
        )

    def _handled(self, name: str, campaign: str) -> int:
        kind = HANDLED[name.partition("-")[0]]
        rows = self._silent.query(
            "SELECT count() AS n FROM {db}.outcomes WHERE campaign_id = {campaign:String} "
            "AND event_type = {kind:String} AND node = {node:String}",
            {"campaign": campaign, "kind": kind, "node": name},
        )
        return int(rows[0]["n"])


def measure(chosen: Plan) -> Beside:
    """All rounds, after one that is not counted."""
    with collector() as port:
        workers = Workers(four_kilobytes(chosen.mails), port, chosen.scrape_every)
        try:
            workers.start()
            say("a round that is not counted: the broker has just been started")
            workers.round(0, chosen.mails)
            rounds = []
            for number in range(1, chosen.rounds + 1):
                rounds.append(done := workers.round(number, chosen.mails))
                say(f"without {done.without_ms}, with {done.with_ms} ms a mail: {done.more:+.1%}; {done.mails}")
        finally:
            workers.close()
    shares = [done.more for done in rounds]
    return Beside(
        mails=chosen.mails,
        scrape_every=chosen.scrape_every,
        rounds=rounds,
        more=round(statistics.mean(shares), 4),
        error=round(statistics.stdev(shares) / len(shares) ** 0.5, 4),
    )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=6_000, help="in a round, of both workers (%(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="an even number, two or more (%(default)s)")
    parser.add_argument("--scrape-every", type=float, default=15.0, help="seconds (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    chosen = parser.parse_args(namespace=Plan())
    if chosen.rounds < 2 or chosen.rounds % 2:
        parser.error("--rounds: workers change partitions every round, so give an even number")
    machine = this_machine()
    found = measure(chosen)
    print(f"telemetry adds {found.more:+.1%} of a mail's CPU in compose and deliver, give or take {found.error:.1%}")
    print(f"kept {keep(chosen.results, 'telemetry-beside', machine, found)}")


if __name__ == "__main__":
    main()
