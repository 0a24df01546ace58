"""How often a mail of a long backlog is visited again before its turn: ``python benchmarks/backlog_revisits.py``.

All mails are composed at once for one site with a rate. The deliver service's own decisions and the wheel's run over
parts in memory, with time that is moved, so that hours pass in minutes. A *pass* is a stay in the wheel, from being put
off to coming back; within it a mail may go through several tiers.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
from backlog_log import Log
from machine import RESULTS, keep, this_machine

from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.follower import MemoryFollower
from sluice.adapters.memory.ledger_log import MemoryLedgerLog
from sluice.adapters.memory.mailer import TAKEN, MemoryMailer
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.rules.loader import load_rules
from sluice.adapters.telemetry.logs import set_up_logs
from sluice.deliver.books import Books
from sluice.deliver.departures import Departures
from sluice.deliver.handler import DeliverHandler
from sluice.deliver.paths import Paths
from sluice.deliver.senders import Senders
from sluice.deliver.step import Attempts
from sluice.domain.conclusion import Recorder
from sluice.domain.egress import Egress, Egresses
from sluice.domain.mail import Envelope, Mail, ready_headers
from sluice.domain.routing import RouteTable
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_name, lane_partition
from sluice.domain.smtp import Replied, Result
from sluice.domain.topics import READY
from sluice.ports.bus import Record
from sluice.ports.mailer import Transaction
from sluice.wheel.turner import TICK, WheelTurner

SITE = "slow.example"
HOST = "mx.slow.example"
PARTITIONS = 4
PATIENCE = 8.0
"""As ``SLUICE_PATIENCE_S`` has it."""
SLOW_DOWN = Replied("rcpt", 421, "4.7.0 Too many messages, please slow down", "4.7.0")
CONTENT = b"Subject: x\r\n\r\nbody\r\n"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """``passes`` and ``hops`` are per mail; ``_by_count`` says how many mails had so many passes. Times in seconds."""

    mails: int
    rate: str
    arriving_per_second: float
    service_ms: float
    slow_down_at: float | None = None
    """When the site asked for less, once."""
    delivered: int
    attempts_beyond_the_first: int
    passes_mean: float
    passes_p50: int
    passes_p99: int
    passes_max: int
    passes_by_count: dict[str, int]
    hops_mean: float
    hops_p50: int
    hops_p99: int
    hops_max: int
    to_drain: float
    ideal: float
    slower_than_ideal: float
    """``to_drain`` over ``ideal``, less 1."""
    most_in_a_second: int
    most_in_a_minute: int
    most_in_memory: int
    took: float
    """On the clock of the machine."""


class Site:
    """The receiving side: takes every mail after ``service`` seconds, and notes when.

    With ``slow_down_at`` it asks for less once, so many seconds after its first mail.
    """

    def __init__(self, clock: MemoryClock, service: float, slow_down_at: float | None) -> None:
        self._clock = clock
        self._service = service
        self._slow_down_at = slow_down_at
        self._first = math.inf
        self.moments: list[float] = []
        self.recipients: set[str] = set()

    async def take(self, transaction: Transaction) -> Result:
        """Answer a transaction."""
        self._first = min(self._first, self._clock.now())
        if self._slow_down_at is not None and self._clock.now() - self._first >= self._slow_down_at:
            self._slow_down_at = None
            return SLOW_DOWN
        self.moments.append(self._clock.now())
        self.recipients.add(transaction.rcpt_to)
        await self._clock.sleep(self._service)
        return TAKEN


class Simulation:
    """One deliver process and one wheel process over a log in memory."""

    def __init__(self, rate: str, service: float, slow_down_at: float | None) -> None:
        self.clock = MemoryClock()
        self.log = Log(self.clock, PARTITIONS)
        self.site = Site(self.clock, service, slow_down_at)
        self._failures: list[BaseException] = []
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sites.toml").write_text(
                f'[[site]]\nname = "{SITE}"\ndomains = ["{SITE}"]\nrate = "{rate}"\nconnections = 4\n'
                'mails_per_connection = 1000\nconnect_rate = "unlimited"\n'
            )
            rules = load_rules(Path(folder))
        mailer = MemoryMailer()
        mailer.answer(HOST, self.site.take)
        books = Books(self.log.side("deliver"), Recorder("bench", b"key"), self._failures.append)
        attempts = Attempts(books, self.clock, rules, lambda: 0.5)
        departures = Departures(Egresses([Egress("default", "bench.example")]))
        routes = RouteTable.parse(f"*=smtp://{HOST}:25?tls=none")
        paths = Paths(routes, MemoryResolver({}, {}), self.clock, ())
        self._mailer = mailer
        self._senders = Senders(
            mailer, paths, attempts, self.clock, budget=200, patience=PATIENCE, departures=departures
        )
        self.handler = DeliverHandler(
            books=books,
            attempts=attempts,
            senders=self._senders,
            paths=paths,
            ledger_log=MemoryLedgerLog(self.log.kept),
            rules=rules,
            clock=self.clock,
            partitions=lambda: PARTITIONS,
            patience=PATIENCE,
            suspended_until=lambda _: 0.0,
        )
        self._follower = MemoryFollower()
        self._turner = WheelTurner(self._follower, self.log.side("wheel"), self.clock)
        self.lane = lane_name(SITE, 0)
        self.home = lane_partition(self.lane, PARTITIONS)

    async def run(self, mails: int, per_second: float) -> float:
        """Until every mail is delivered; returns how long that took, in moved seconds."""
        await self.handler.assigned(self.home)
        began = self.clock.now()
        composed, most, swept, told = 0, 0, began, time.monotonic()
        side = self.log.side("compose")
        while len(self.site.moments) < mails:
            due = min(mails, math.ceil((self.clock.now() - began + TICK) * per_second))
            for number in range(composed, due):
                side.publish(self._ready(number))
            composed = max(composed, due)
            self.log.feed_wheel(self._follower)
            await self._turner.turn()
            for record in self.log.ready(self.home):
                self.handler.take(record, _nothing)
            await self.clock.advance(TICK)
            if self.clock.now() - swept >= 1.0:
                swept = self.clock.now()
                self.handler.sweep()
                most = max(most, sum(lane.queued for lane in self.handler.lanes.values()))
            if self._failures:
                raise self._failures[0]
            self._mailer.taken.clear()
            if time.monotonic() - told > 10:
                told = time.monotonic()
                gone = self.clock.now() - began
                print(f"  {len(self.site.moments):,} of {mails:,} delivered after {gone:,.0f} s", flush=True)
        took = self.site.moments[-1] - began
        self.most_in_memory = most
        await self._senders.close()
        return took

    def _ready(self, number: int) -> Record:
        now = self.clock.now()
        message_id = f"m{number:07}"
        envelope = Envelope(
            message_id=message_id,
            rfc5322_message_id=f"{message_id}@acme.example",
            tenant_id="acme",
            stream="transactional",
            priority="normal",
            mail_from="bounces@acme.example",
            rcpt_to=f"{message_id}@{SITE}",
            domain=SITE,
            site=SITE,
            lane=self.lane,
            size=len(CONTENT),
            queued_at=now,
            composed_at=now,
            expires_at=now + 172_800,
        )
        headers = ready_headers(Mail(envelope, CONTENT), time="2027-01-15T08:00:00Z")
        return Record(READY["normal"], CONTENT, SITE.encode(), headers, self.home)


async def simulate(mails: int, rate: str, per_second: float, service: float, slow_down_at: float | None) -> Figures:
    """One backlog."""
    began = time.monotonic()
    simulation = Simulation(rate, service, slow_down_at)
    to_drain = await simulation.run(mails, per_second)
    log, moments = simulation.log, sorted(simulation.site.moments)
    ids = [f"m{number:07}" for number in range(mails)]
    passes = sorted(log.entered[each] for each in ids)
    hops = sorted(log.entered[each] + log.moved[each] for each in ids)
    parsed = Rate.parse(rate)
    ideal = max(0, mails - parsed.burst) * parsed.interval
    return Figures(
        mails=mails,
        rate=str(parsed),
        arriving_per_second=per_second,
        service_ms=service * 1000,
        slow_down_at=slow_down_at,
        delivered=len(simulation.site.recipients),
        attempts_beyond_the_first=len(moments) - mails,
        passes_mean=round(sum(passes) / mails, 4),
        passes_p50=passes[mails // 2],
        passes_p99=passes[mails * 99 // 100],
        passes_max=passes[-1],
        passes_by_count={str(count): number for count, number in sorted(Counter(passes).items())},
        hops_mean=round(sum(hops) / mails, 3),
        hops_p50=hops[mails // 2],
        hops_p99=hops[mails * 99 // 100],
        hops_max=hops[-1],
        to_drain=round(to_drain, 2),
        ideal=round(ideal, 2),
        slower_than_ideal=round(to_drain / ideal - 1, 5) if ideal else 0.0,
        most_in_a_second=_most_within(moments, 1.0),
        most_in_a_minute=_most_within(moments, 60.0),
        most_in_memory=simulation.most_in_memory,
        took=round(time.monotonic() - began, 1),
    )


def _most_within(moments: list[float], seconds: float) -> int:
    most = first = 0
    for last, moment in enumerate(moments):
        # Moved time is a sum of floats: a millisecond decides nothing here.
        while moments[first] <= moment - seconds + 0.001:
            first += 1
        most = max(most, last - first + 1)
    return most


def _nothing() -> None:
    return


def table(figures: Figures) -> str:
    """Markdown."""
    spread = ", ".join(f"{number:,} mails {count}" for count, number in figures.passes_by_count.items())
    passes = (figures.passes_mean, figures.passes_p50, figures.passes_p99, figures.passes_max)
    hops = (figures.hops_mean, figures.hops_p50, figures.hops_p99, figures.hops_max)
    return f"""{figures.mails:,} mails at {figures.rate}, composed at {figures.arriving_per_second:,.0f}/s

| per mail | mean | p50 | p99 | max |
|---|---:|---:|---:|---:|
| passes through the wheel | {passes[0]:.3f} | {passes[1]} | {passes[2]} | {passes[3]} |
| tiers rested in | {hops[0]:.2f} | {hops[1]} | {hops[2]} | {hops[3]} |

Passes: {spread}.
Drained in {figures.to_drain:,.1f} s; the rate alone needs {figures.ideal:,.1f} s ({figures.slower_than_ideal:+.2%}).
At most {figures.most_in_a_second} in a second and {figures.most_in_a_minute} in a minute.
At most {figures.most_in_memory} in the worker's memory."""


def main() -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=20_000, help="%(default)s; the requirement speaks of 200000")
    parser.add_argument("--rate", default="1000/min", help="what the site takes (%(default)s)")
    parser.add_argument("--arriving", type=float, default=2000.0, help="composed mails a second (%(default)s)")
    parser.add_argument("--service", type=float, default=20.0, help="milliseconds that the site takes for a mail")
    parser.add_argument("--slow-down-at", type=float, help="have the site ask for less once, after so many seconds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    set_up_logs("bench", "local", level="error", form="console")
    machine = this_machine()
    service = options.service / 1000
    figures = asyncio.run(simulate(options.mails, options.rate, options.arriving, service, options.slow_down_at))
    path = keep(options.results, "backlog-revisits", machine, figures)
    print(f"\n{table(figures)}\n\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
