"""Mail driven again while its driver is killed over and over: ``python benchmarks/redrive.py``.

A campaign is published of which a share asks for a version of its template that is not there, and is rejected. A plan
drives those again with a version that is. Its driver is a process of its own, and is killed with SIGKILL several times
on the way. Afterwards every recipient has to have one mail: what the sink got is counted, and what the outcomes say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from harness import Sluice, Stuck, four_kilobytes, say, told, with_sluice
from machine import RESULTS, keep, this_machine

from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.client import Client
from sluice.local.bench import Load, bench_events

CAMPAIGN = "driven"
MISSING = 9
"""The version of the template that nobody has published."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are mails, times seconds. ``repeats`` were asked for by two drivers; compose made one mail of them."""

    published: int
    failed: int
    planned: int
    planning: float
    kills: int
    driving: float
    """Of all drivers together, their starting included."""
    driven_per_second: float
    """Of the last driver, alone and to the end, its starting left out: what it has published by its batches' times."""
    repeats: int
    marked: int
    """First mails with exactly one outcome ``redriven``."""
    delivered_by_plan: int
    recipients: int
    """That the sink has mail for."""
    extra_copies: int
    bytes_per_event: float
    """On the disk of Kafka, of ``mail.send.normal``: what it costs to be able to drive a mail again."""


class Plan(argparse.Namespace):
    """The options."""

    mails: int
    every: int
    kills: int
    results: Path


class Driving:
    """``sluice redrive`` as an operator gives it."""

    def __init__(self, sluice: Sluice) -> None:
        self._environment = {**os.environ, **sluice.stack.environment}

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, under way."""
        return subprocess.Popen(
            [sys.executable, "-c", "from sluice.cli import main; main()", "redrive", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def ask(self, *arguments: str) -> Any:
        """What it answers; raises :class:`Stuck` with what it complains of."""
        process = self.process(*arguments)
        answer, complaint = process.communicate()
        if process.returncode:
            raise Stuck(complaint.strip())
        return json.loads(answer)


def events(load: Load, plan: Plan) -> Iterator[dict[str, Any]]:
    """The campaign; every ``plan.every``-th asks for what is missing."""
    for number, event in enumerate(bench_events(load, CAMPAIGN, plan.mails)):
        if number % plan.every == 0:
            event["template"]["version"] = MISSING
        yield event


async def measure(plan: Plan, sluice: Sluice, load: Load) -> Figures:
    """All of it on one stack."""
    failing = len(range(0, plan.mails, plan.every))
    say(f"publishing {plan.mails:,} mails, of which {failing:,} must fail")
    await asyncio.to_thread(_publish, sluice, events(load, plan))
    await sluice.wait_for(CAMPAIGN, plan.mails - failing)
    on_disk = sum(file.stat().st_size for file in sluice.stack.folder.path.glob("**/mail.send.normal-*/*.log"))
    driving = Driving(sluice)
    began = time.monotonic()
    where = f"campaign_id = '{CAMPAIGN}' AND event_type = 'rejected'"
    planned = await asyncio.to_thread(driving.ask, "plan", "--where", where)
    planning, name = time.monotonic() - began, planned["plan"]["plan_id"]
    say(f"plan {name}: {planned['plan']['mails']:,} mails, made in {planning:.1f} s")
    began = time.monotonic()
    kills = await asyncio.to_thread(_kill_on_the_way, driving, sluice, name, planned["plan"]["mails"], plan.kills)
    done = await asyncio.to_thread(driving.ask, "start", name, "--template-version", "1")
    took = time.monotonic() - began
    say(f"{done['driven']:,} driven in {took:.1f} s, over {kills} kills")
    await sluice.wait_for(CAMPAIGN, plan.mails)
    status = await asyncio.to_thread(driving.ask, "status", name)
    return Figures(
        published=plan.mails,
        failed=failing,
        planned=planned["plan"]["mails"],
        planning=round(planning, 1),
        kills=kills,
        driving=round(took, 1),
        repeats=status["results"]["repeats"],
        **_counted(sluice, name),
        bytes_per_event=round(on_disk / plan.mails),
    )


def _publish(sluice: Sluice, made: Iterator[dict[str, Any]]) -> None:
    with Client(sluice.stack.settings.kafka_bootstrap, source="bench") as client:
        client.send_many(made, "normal")


def _kill_on_the_way(driving: Driving, sluice: Sluice, name: str, mails: int, kills: int) -> int:
    """Start a driver and kill it so many times, each when it has come some way; returns how often it was."""
    chance = random.Random(7)
    done = 0
    for number in range(1, kills + 1):
        driver = driving.process("start", name, "--template-version", "1")
        until = mails * number // (kills + 2)
        while driver.poll() is None and _reached(sluice, name) < until:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.2)
        if driver.poll() is None:
            driver.kill()
            done += 1
        driver.communicate()
    return done


def _reached(sluice: Sluice, name: str) -> int:
    return int(_one(sluice, "SELECT max(next) AS n FROM {db}.redrive_batches WHERE plan_id = {plan:String}", name)["n"])


def _one(sluice: Sluice, sql: str, name: str) -> dict[str, Any]:
    store = sluice.stack.clickhouse
    try:
        return store.rows(sql.replace("{db}", store.database), {"plan": name, "campaign": CAMPAIGN})[0]
    finally:
        store.close()


def _counted(sluice: Sluice, name: str) -> dict[str, Any]:
    marked = (
        "SELECT countIf(n = 1) AS once FROM (SELECT count() AS n FROM {db}.outcomes WHERE event_type = 'redriven' "
        "AND redrive_plan = {plan:String} GROUP BY message_id)"
    )
    delivered = (
        "SELECT uniqExact(redrive_of) AS mails FROM {db}.outcomes WHERE event_type = 'delivered' "
        "AND redrive_plan = {plan:String}"
    )
    speed = (
        "SELECT sum(published) AS mails, dateDiff('millisecond', min(at), max(at)) / 1000 AS seconds "
        "FROM {db}.redrive_batches FINAL WHERE plan_id = {plan:String} "
        "AND run = (SELECT argMax(run, at) FROM {db}.redrive_batches WHERE plan_id = {plan:String})"
    )
    last = _one(sluice, speed, name)
    got = Counter(address for mail in Mailbox(sluice.stack.folder.mailbox).received() for address in mail.rcpt_to)
    return {
        "marked": int(_one(sluice, marked, name)["once"]),
        "delivered_by_plan": int(_one(sluice, delivered, name)["mails"]),
        "driven_per_second": round(last["mails"] / max(0.001, last["seconds"])),
        "recipients": len(got),
        "extra_copies": sum(got.values()) - len(got),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=100_000, help="published (%(default)s)")
    parser.add_argument("--every", type=int, default=5, help="one of so many fails (%(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="of the driver (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    plan = parser.parse_args(namespace=Plan())
    machine, load = this_machine(), four_kilobytes(plan.mails)
    with told("redrive"):
        figures = with_sluice(lambda sluice: measure(plan, sluice, load), load, counts={"compose": 1, "deliver": 1})
    path = keep(plan.results, "redrive", machine, figures)
    print(f"{msgspec.json.format(msgspec.json.encode(figures)).decode()}\n\n{path}")


if __name__ == "__main__":
    main()
