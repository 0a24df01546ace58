"""What telemetry costs the whole pipeline: the same load with and without, in turn, on one Kafka and one ClickHouse.

With: every service is asked for its metrics once in ``--scrape-every`` seconds, and traces and metrics go by OTLP, at
default settings, to a collector's stand-in. Without: nobody asks, nothing is sent. Services are started anew for each
round; rounds go with, without, without, with, so that what changes slowly hits both alike.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import msgspec
from harness import four_kilobytes, say
from machine import RESULTS, ROOT, SCRATCH, keep, this_machine

sys.path.insert(0, str(ROOT))
from tests.support.stack import PARTS, Stack

from sluice.client import Client
from sluice.local.bench import RULES, Load, bench_events, bench_reference
from sluice.local.cpu import cpu_seconds
from sluice.local.options import SERVICES, Options
from sluice.local.stack import plan

DATA = SCRATCH / "run" / "telemetry"
PROCESSES = [f"{name}-1" for name in SERVICES]
LOOK_EVERY = 0.5
PATIENCE = 60.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: mails a second from the first publish to the last outcome in ClickHouse, and the services' CPU."""

    telemetry: bool
    mails_per_second: float
    cpu_ms_per_mail: dict[str, float]

    @property
    def cpu(self) -> float:
        """Milliseconds per mail over all services."""
        return sum(self.cpu_ms_per_mail.values())


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds of each kind. ``lost`` and ``more_cpu`` are shares: 0.01 is one in a hundred."""

    mails: int
    scrape_every: float
    rounds: list[Round]
    without_per_second: float
    with_per_second: float
    lost: float
    lost_of_pairs: list[float]
    """Of each two rounds that followed each other."""
    without_cpu_ms: float
    with_cpu_ms: float
    more_cpu: float
    scrapes: int
    collected: dict[str, int]


class Scraper:
    """Asks every service for its metrics, each in its turn once in ``every`` seconds, while it is entered."""

    def __init__(self, urls: list[str], every: float) -> None:
        self._urls = cycle(urls)
        self._pause = every / max(1, len(urls))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.count = 0

    def _ask(self) -> None:
        for url in self._urls:
            if self._stop.wait(self._pause):
                return
            with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
                self.count += 1

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Pipeline:
    """A stack whose services run with telemetry or without."""

    def __init__(self, load: Load, collector: int, scrape_every: float) -> None:
        shutil.rmtree(DATA, ignore_errors=True)
        off = {"OTEL_SDK_DISABLED": "true"}
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
        self._load = load
        self._scrape_every = scrape_every
        self._stacks = {told: self._stack(on if told else off) for told in (False, True)}
        self.scrapes = 0
        self._number = 0

    def _stack(self, environment: dict[str, str]) -> Stack:
        options = Options(
            data=DATA, sink="fast", rules=RULES, examples=True, first_port=23_000, environment=environment
        )
        return Stack(plan(options, bench_reference(self._load), say=say))

    def start(self) -> None:
        """Kafka, ClickHouse and the receiving side."""
        self._stacks[False].start(*PARTS, timeout=180)

    def close(self) -> None:
        """End everything."""
        for stack in self._stacks.values():
            stack.close()

    def round(self, *, telemetry: bool, mails: int, warm_up: int) -> Round:
        """Start the services, warm them up, measure, stop them."""
        stack = self._stacks[telemetry]
        stack.start(*PROCESSES)
        urls = [url.replace("/readyz", "/metrics") for url in stack.local.health_urls().values()]
        scraper = Scraper(urls if telemetry else [], self._scrape_every)
        with scraper:
            self._number += 1
            through(stack, self._load, f"warm-up-{self._number}", warm_up)
            before = self._cpu(stack)
            began = time.time()
            through(stack, self._load, f"measured-{self._number}", mails)
            after = self._cpu(stack)
        self.scrapes += scraper.count
        rows = stack.query(
            "SELECT toUnixTimestamp64Milli(max(recorded_at)) / 1000 AS at FROM {db}.outcomes "
            "WHERE campaign_id = {campaign:String} AND event_type = 'delivered'",
            {"campaign": f"measured-{self._number}"},
        )
        stack.stop(*PROCESSES)
        done = Round(
            telemetry=telemetry,
            mails_per_second=round(mails / (float(rows[0]["at"]) - began), 1),
            cpu_ms_per_mail={name: round((after[name] - before[name]) * 1000 / mails, 4) for name in PROCESSES},
        )
        say(f"{'with' if telemetry else 'without'}: {done.mails_per_second:,.0f} mails/s, {done.cpu:.3f} ms CPU a mail")
        return done

    @staticmethod
    def _cpu(stack: Stack) -> dict[str, float]:
        return {name: cpu_seconds(stack.pid(name)) for name in PROCESSES}


def through(stack: Stack, load: Load, campaign: str, count: int) -> None:
    """Publish, and wait until all are delivered and recorded."""
    with Client(stack.bootstrap, source="bench") as client:
        client.send_many(bench_events(load, campaign, count), "normal")
    found, moved = 0, time.monotonic()
    while found < count:
        rows = stack.query(
            "SELECT count() AS n FROM {db}.outcomes WHERE campaign_id = {campaign:String} AND event_type = 'delivered'",
            {"campaign": campaign},
        )
        if int(rows[0]["n"]) > found:
            found, moved = int(rows[0]["n"]), time.monotonic()
        if time.monotonic() - moved > PATIENCE:
            sys.exit(f"telemetry: {found} of {count} mails, and none more for {PATIENCE:g} s")
        time.sleep(LOOK_EVERY)


@contextmanager
def collector() -> Iterator[int]:
    """A collector's stand-in, as its port."""
    command = [sys.executable, str(Path(__file__).with_name("collector.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def measure(mails: int, pairs: int, warm_up: int, scrape_every: float) -> Figures:
    """All rounds; ``pairs`` of one with and one without."""
    with collector() as port:
        pipeline = Pipeline(four_kilobytes(mails), port, scrape_every)
        try:
            pipeline.start()
            say("a round that is not counted: the broker has just been started")
            pipeline.round(telemetry=True, mails=mails, warm_up=warm_up)
            rounds = [
                pipeline.round(telemetry=told, mails=mails, warm_up=warm_up)
                for pair in range(pairs)
                for told in ((True, False) if pair % 2 == 0 else (False, True))
            ]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts", timeout=10) as answer:
                collected = json.load(answer)
        finally:
            pipeline.close()
    return figures(mails, scrape_every, rounds, pipeline.scrapes, collected)


def figures(mails: int, scrape_every: float, rounds: list[Round], scrapes: int, collected: dict[str, int]) -> Figures:
    """What the rounds come to."""

    def median(telemetry: bool, of: str) -> float:
        return statistics.median(getattr(each, of) for each in rounds if each.telemetry is telemetry)

    rate = {told: median(told, "mails_per_second") for told in (False, True)}
    cpu = {told: median(told, "cpu") for told in (False, True)}
    pairs = [sorted(rounds[at : at + 2], key=lambda each: each.telemetry) for at in range(0, len(rounds), 2)]
    return Figures(
        mails=mails,
        scrape_every=scrape_every,
        rounds=rounds,
        without_per_second=rate[False],
        with_per_second=rate[True],
        lost=round(1 - rate[True] / rate[False], 4),
        lost_of_pairs=[round(1 - told.mails_per_second / silent.mails_per_second, 4) for silent, told in pairs],
        without_cpu_ms=round(cpu[False], 4),
        with_cpu_ms=round(cpu[True], 4),
        more_cpu=round(cpu[True] / cpu[False] - 1, 4),
        scrapes=scrapes,
        collected=collected,
    )


def report(mails: int, pairs: int, warm_up: int, scrape_every: float, results: Path = RESULTS) -> None:
    """Measure, print, keep."""
    machine = this_machine()
    found = measure(mails, pairs, warm_up, scrape_every)
    print(f"without telemetry {found.without_per_second:,.0f} mails/s, {found.without_cpu_ms:.3f} ms CPU a mail")
    print(f"with              {found.with_per_second:,.0f} mails/s, {found.with_cpu_ms:.3f} ms CPU a mail")
    pairs_told = ", ".join(f"{each:+.1%}" for each in found.lost_of_pairs)
    print(f"lost {found.lost:+.1%} of the rate (by pair: {pairs_told}); {found.more_cpu:+.1%} CPU")
    print(f"kept {keep(results, 'telemetry', machine, found)}")
