"""Five questions about a run with failures, answered by the ready-made queries, beside the truth counted elsewhere.

A whole Sluice runs on this machine, and the demo's mails go through it: some are put off, refused, hang, are slow,
suppressed, wrong or too late. The truth is what was published and what the mailbox holds. ``--pictures`` draws what
``sluice watch`` and ``sluice query --format plot`` show of it.

    .venv/bin/python benchmarks/questions.py --mails 100000
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from harness import FIRST_PORT, say, told
from machine import RESULTS, SCRATCH, keep, this_machine
from questions_truth import CAMPAIGN, Noted, Truth, read_truth
from terminal_pictures import draw

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.ready_made import ask, find_query
from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.adapters.telemetry.logs import set_up_logs
from sluice.commands.plot import bars
from sluice.commands.watch_screen import Room
from sluice.commands.watch_screen import draw as draw_frame
from sluice.commands.watch_sources import Sources
from sluice.commands.watch_window import Filters
from sluice.local.demo import Demo, demo_options, demo_reference, traffic
from sluice.local.running import running
from sluice.local.stack import LocalStack, plan
from sluice.local.traffic import CLOSED
from sluice.runtime import console_rules

DATA = SCRATCH / "questions"
DOMAINS = 50
PATIENCE = 900.0
"""Seconds that the last mails may take: one of the sites is slow."""
HISTOGRAM = 0.044
"""How far a percentile of the histogram may be off."""


class Answer(msgspec.Struct, frozen=True):
    """A question, what the query said, and the truth; ``right`` allows percentiles what their histogram allows."""

    question: str
    query: str
    seconds: float
    answered: dict[str, float]
    truth: dict[str, float]
    right: bool


class Asker:
    """Asks ready-made queries, and keeps how long each took."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def __call__(self, name: str, **given: str) -> tuple[list[dict[str, Any]], float]:
        """Rows and seconds."""
        query = find_query(name)
        at = time.monotonic()
        rows = ask(self._clickhouse, query, query.values({"since": "2d", **given}, datetime.now(UTC)))
        return rows, round(time.monotonic() - at, 3)


def answers(asked: Asker, truth: Truth) -> list[Answer]:
    """The five."""
    rows, seconds = asked("deliverability", limit="1000")
    delivered: dict[str, float] = {}
    for row in rows:
        if row["delivered"]:
            delivered[row["site"]] = delivered.get(row["site"], 0) + row["delivered"]
    made = [
        _exact("How many mails were delivered to each site?", "deliverability", seconds, delivered, truth.delivered)
    ]
    rows, seconds = asked("bounce_categories")
    closed, _ = asked("bounce_categories", site=CLOSED)
    refused = {"refused": sum(row["bounced"] for row in rows) - sum(row["bounced"] for row in closed)}
    made.append(
        _exact("How many were refused for good?", "bounce_categories", seconds, refused, {"refused": truth.refused})
    )
    rows, seconds = asked("suppressions", limit="1000")
    kept = {"suppressed": sum(row["suppressed"] for row in rows)}
    made.append(
        _exact("How many were not sent, by the list?", "suppressions", seconds, kept, {"suppressed": truth.suppressed})
    )
    rows, seconds = asked("campaigns", campaign=CAMPAIGN)
    of_campaign = {row["campaign"]: row["delivered"] for row in rows}
    made.append(_exact("How far is the campaign?", "campaigns", seconds, of_campaign, truth.by_campaign))
    rows, seconds = asked("latency")
    (total,) = (row for row in rows if row["reason"] == "total")
    percentiles = {f"p{part}_ms": float(total[f"p{part}_ms"]) for part in (50, 90, 99)}
    real = {f"p{part}_ms": round(_quantile(truth.took_ms, part / 100), 1) for part in (50, 90, 99)}
    near = all(abs(percentiles[name] - real[name]) <= HISTOGRAM * real[name] + 5 for name in real)
    made.append(Answer("How long did mails take?", "latency", seconds, percentiles, real, near))
    return made


def _exact(question: str, query: str, seconds: float, answered: dict[str, float], truth: dict[str, int]) -> Answer:
    return Answer(question, query, seconds, answered, dict(truth), answered == truth)


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def run(mails: int, pictures: Path | None, watched: float) -> dict[str, Any]:
    """One run; returns its figures."""
    shutil.rmtree(DATA, ignore_errors=True)
    options = msgspec.structs.replace(demo_options(DATA), first_port=FIRST_PORT)
    stack = plan(options, demo_reference())
    noted = Noted(traffic(mails, DOMAINS, 1))
    say("starting Kafka, ClickHouse, a mailbox and the services")
    async with running(stack) as started:
        watching = asyncio.to_thread(watch, stack, pictures, watched) if pictures else asyncio.sleep(0)
        demo = Demo(stack, noted, PATIENCE, _every_ten(say))  # type: ignore[arg-type]
        report, _ = await started.during(asyncio.gather(demo.run(), watching))
        truth = await asyncio.to_thread(read_truth, noted, Mailbox(stack.folder.mailbox))
        clickhouse = stack.clickhouse
        try:
            found = await asyncio.to_thread(answers, Asker(clickhouse), truth)
            if pictures:
                await asyncio.to_thread(plot, Asker(clickhouse), pictures)
        finally:
            clickhouse.close()
    return {
        "mails": report.reckoning.published,
        "seconds": round(report.settling, 1),
        "all_ended": report.quiet,
        "difference": report.reckoning.difference,
        "states": report.reckoning.equation,
        "answers": found,
    }


def watch(stack: LocalStack, pictures: Path, seconds: float) -> None:
    """Draw what ``sluice watch`` shows after so long."""
    sources = Sources(stack.settings, console_rules.rules(stack.settings), Filters())
    try:
        sources.load()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            frame = sources.frame(sources.listen(2.0))
        draw("sluice watch", draw_frame(frame, Room(lanes=6, sites=5, failures=10)), pictures / "watch.svg", 118)
    finally:
        sources.close()


def plot(asked: Asker, pictures: Path) -> None:
    """Draw what ``sluice query`` plots."""
    for name, given, file in (
        ("deliverability", {"limit": "12"}, "query-plot.svg"),
        ("latency", {}, "query-plot-latency.svg"),
    ):
        query = find_query(name)
        rows, _ = asked(name, **given)
        labels, value = query.plot
        unit = next(column.unit for column in query.columns if column.name == value)
        words = " ".join(f"-p {key}={text}" for key, text in given.items())
        command = " ".join(f"sluice query {name} --since 2d {words} --format plot".split())
        draw(command, bars(rows, labels, value, unit, query.title), pictures / file, 106)


def _every_ten(print_: Callable[[str], None]) -> Callable[[str], None]:
    last = [0.0]

    def progress(text: str) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print_(text)

    return progress


def main() -> None:
    """Run, print the answers, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--pictures", type=Path, help="draw the terminal into this folder")
    parser.add_argument("--watched", type=float, default=60.0, help="seconds after which the watch is drawn")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    machine = this_machine()
    set_up_logs("questions", "local", level="error", form="console")
    with told("questions"):
        figures = asyncio.run(run(given.mails, given.pictures, given.watched))
    shutil.rmtree(DATA, ignore_errors=True)
    if not figures["all_ended"]:
        sys.exit(f"questions: mails were still on their way after {PATIENCE:g} s, so nothing can be compared")
    for answer in figures["answers"]:
        say(f"{'right' if answer.right else 'WRONG'}  {answer.question}  ({answer.query}, {answer.seconds} s)")
        for name in sorted({*answer.answered, *answer.truth})[:60]:
            one, other = answer.answered.get(name, 0), answer.truth.get(name, 0)
            if not answer.right or len(answer.truth) < 6:
                say(f"         {name or '(none)':24} {one:>12,} answered {other:>12,} true")
    say(f"{figures['mails']:,} mails in {figures['seconds']} s; difference {figures['difference']}")
    say(f"kept in {keep(given.into, 'questions', machine, figures)}")
    if not all(answer.right for answer in figures["answers"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
