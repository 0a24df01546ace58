"""What silent sites cost the others: ``python benchmarks/black_hole.py``.

Mail goes evenly to a hundred sites. In turns all are well, and one of a hundred (``--holes``) is a black hole while
another takes a minute for each mail. Of the other sites' mail it is measured, with and without: from publish to the
receiver's 250 at a steady rate, and mails a second of a burst that is published at once. Waits are Sluice's defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from harness import DATA, FIRST_PORT, percentile, say, told
from machine import RESULTS, keep, this_machine
from silent_sites import SilentServer

from sluice.adapters.embedded.ports import free_port
from sluice.adapters.telemetry.logs import set_up_logs
from sluice.client import Client
from sluice.local.options import Options
from sluice.local.running import Running, running
from sluice.local.seed import default_tenant
from sluice.local.stack import LocalStack, plan

SITES = 100
SLOW = "slow.example"
SETTLE = 4.0
"""Seconds after a change before anything is measured: connections that were open have met the silence by then."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """The other sites' mail: ``mails`` of it; milliseconds from publish to 250 at a steady rate; mails a second of the
    burst. ``silent_open`` are the connections that the silent sites held at most."""

    fault: bool
    mails: int
    p50: int
    p99: int
    slowest: int
    burst_per_second: float
    silent_open: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All phases in order, and what is made of them: medians of those with a fault over those without."""

    sites: int
    holes: int
    rate: float
    silent_share: float
    phases: list[Phase]
    p99_ratio: float
    throughput_ratio: float


class Sites:
    """The silent servers, and who is to be written to."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.silent = [f"hole{number}.example" for number in range(options.holes)] + [SLOW]
        self.others = [f"d{number}.example" for number in range(SITES - len(self.silent))]
        self._every = max(2, round(1 / options.silent_share))
        self.servers = {name: SilentServer(60.0) for name in self.silent}

    def recipients(self, count: int) -> Iterator[str]:
        """``count`` domains; a share of them are the silent ones, the same in both kinds of phase."""
        for number in range(count):
            if number % self._every == 0:
                yield self.silent[number // self._every % len(self.silent)]
            else:
                yield self.others[number % len(self.others)]

    def turn(self, fault: bool) -> None:
        """All fall silent, or are well again."""
        for name, server in self.servers.items():
            server.turn("fine" if not fault else "slow" if name == SLOW else "hole")


def publish(bootstrap: str, sites: Sites, campaign: str, count: int, rate: float | None) -> float:
    """Evenly at ``rate``, or at once; returns when it began, seconds since the epoch."""
    with Client(bootstrap, source="bench") as client:
        client.partitions("mail.send.normal")
        began, started = time.time(), time.monotonic()
        for number, domain in enumerate(sites.recipients(count)):
            if rate is not None:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
            client.submit(
                {
                    "tenant_id": "acme",
                    "campaign_id": campaign,
                    "to": [{"email": f"user{number}@{domain}"}],
                    "subject": f"Number {number}",
                    "text": "Your order is on its way.\n" * 60,
                },
                "normal",
            )
    return began


async def delivered(stack: LocalStack, campaign: str, wanted: int, patience: float) -> list[tuple[int, float]]:
    """Of the others' mails: milliseconds from publish to 250, and when, ascending by the first."""
    clickhouse, deadline = stack.clickhouse, time.monotonic() + patience
    sql = (
        "SELECT dateDiff('millisecond', assumeNotNull(queued_at), event_time) AS took, "
        "toUnixTimestamp64Milli(event_time) / 1000 AS at "
        f"FROM {clickhouse.database}.outcomes WHERE campaign_id = {{campaign:String}} AND event_type = 'delivered' "
        "AND startsWith(recipient_domain, 'd') ORDER BY took"
    )
    rows: list[dict[str, Any]] = []
    try:
        while len(rows) < wanted and time.monotonic() < deadline:
            await asyncio.sleep(1.0)
            rows = await asyncio.to_thread(clickhouse.rows, sql, {"campaign": campaign})
    finally:
        clickhouse.close()
    if len(rows) < wanted:
        sys.exit(f"black_hole: {campaign}: only {len(rows)} of {wanted} came within {patience:g} s")
    return [(int(row["took"]), float(row["at"])) for row in rows]


async def phase(stack: LocalStack, sites: Sites, options: argparse.Namespace, number: int, *, fault: bool) -> Phase:
    """One phase; ends with the sites well, and quiet."""
    for server in sites.servers.values():
        server.most_open = 0
    sites.turn(fault)
    bootstrap, name = stack.settings.kafka_bootstrap, f"p{number + 1}-{'fault' if fault else 'well'}"
    await asyncio.to_thread(publish, bootstrap, sites, f"before-{name}", round(options.rate * SETTLE), options.rate)
    count = round(options.rate * options.seconds)
    others = sum(domain.startswith("d") for domain in sites.recipients(count))
    await asyncio.to_thread(publish, bootstrap, sites, name, count, options.rate)
    took = [took for took, _ in await delivered(stack, name, others, 60.0)]
    wanted = sum(domain.startswith("d") for domain in sites.recipients(options.burst))
    began = await asyncio.to_thread(publish, bootstrap, sites, f"burst-{name}", options.burst, None)
    ended = max(at for _, at in await delivered(stack, f"burst-{name}", wanted, 90.0))
    made = Phase(
        fault=fault,
        mails=len(took),
        p50=percentile(took, 0.5),
        p99=percentile(took, 0.99),
        slowest=took[-1],
        burst_per_second=round(wanted / (ended - began), 1),
        silent_open=sum(server.most_open for server in sites.servers.values()),
    )
    say(
        f"  {name}: p50 {made.p50} ms, p99 {made.p99} ms, slowest {made.slowest} ms; burst "
        f"{made.burst_per_second:g}/s; silent sites held {made.silent_open} connections"
    )
    sites.turn(fault=False)
    await asyncio.sleep(2.0)
    return made


async def measure(run: Running, sites: Sites, options: argparse.Namespace) -> Figures:
    """All phases, in turns."""
    say("warming up")
    await phase(run.stack, sites, options, -1, fault=False)
    phases = [
        await phase(run.stack, sites, options, number, fault=fault)
        for number in range(options.rounds)
        for fault in (False, True)
    ]

    def ratio(of: str) -> float:
        with_fault, without = ([getattr(each, of) for each in phases if each.fault is fault] for fault in (True, False))
        return round(statistics.median(with_fault) / statistics.median(without), 3)

    return Figures(
        sites=SITES,
        holes=options.holes,
        rate=options.rate,
        silent_share=options.silent_share,
        phases=phases,
        p99_ratio=ratio("p99"),
        throughput_ratio=ratio("burst_per_second"),
    )


@contextmanager
def counting_server(folder: Path) -> Iterator[int]:
    """Who takes the others' mail, in a process of its own; its port."""
    port, control = free_port(), free_port()
    command = [sys.executable, "-m", "sluice.adapters.embedded.sink", "--data", str(folder)]
    process = subprocess.Popen([*command, "--port", str(port), "--control-port", str(control)])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


async def session(options: argparse.Namespace, port: int) -> Figures:
    """Servers, stack, phases."""
    sites = Sites(options)
    async with AsyncExitStack() as servers:
        for server in sites.servers.values():
            await servers.enter_async_context(server)
        routes = [f"{name}=smtp://127.0.0.1:{server.port}?tls=none" for name, server in sites.servers.items()]
        routes.append(f"*=smtp://127.0.0.1:{port}?tls=none")
        chosen = Options(
            data=DATA,
            smtp=f"127.0.0.1:{port}",
            examples=True,
            first_port=FIRST_PORT + 900,
            environment={"SLUICE_ROUTES": ",".join(routes)},
        )
        stack = await asyncio.to_thread(plan, chosen, [default_tenant()], say)
        say("starting Sluice")
        async with running(stack) as run:
            return await run.during(measure(run, sites, options))


def main() -> None:
    """Run, keep, and say how it went; status 1 when the others lost more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--holes", type=int, default=1, help="black-holed sites of the hundred (%(default)s)")
    parser.add_argument("--silent-share", type=float, default=0.05, help="of all mail, to silent sites (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="mails a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each steady part (%(default)s)")
    parser.add_argument("--burst", type=int, default=2500, help="mails published at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times without and with (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    set_up_logs("bench", "local", level="error", form="console")
    machine = this_machine()
    shutil.rmtree(DATA, ignore_errors=True)
    with told("black_hole"), counting_server(DATA.parent / "black-hole-sink") as port:
        figures = asyncio.run(session(options, port))
    name = "black-hole" if options.holes == 1 else f"black-hole-{options.holes}"
    print(keep(options.results, name, machine, figures))
    say(f"others with silent sites: p99 times {figures.p99_ratio:g}, throughput times {figures.throughput_ratio:g}")


if __name__ == "__main__":
    main()
