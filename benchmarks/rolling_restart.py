"""Every service is restarted in turn, again and again, while mail flows: ``python benchmarks/rolling_restart.py``.

A whole Sluice runs on this machine, two deliver workers in it. Each process gets SIGTERM, ends by itself and is started
again, and the next one follows once it is ready. The receiving side counts, by Message-ID.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import msgspec
from machine import RESULTS, ROOT, keep, this_machine

sys.path.insert(0, str(ROOT))
from tests.support.stack import PARTS, Stack, wait_for

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.client import new_message_id
from sluice.local.demo import RULES
from sluice.local.options import Options
from sluice.local.seed import example_reference
from sluice.local.stack import plan

DATA = ROOT / ".tools" / "rolling"
ORDER = ("record-1", "wheel-1", "compose-1", "deliver-1", "deliver-2")
DOMAINS = 100


class Restarts(msgspec.Struct, frozen=True):
    """Of one process: seconds from SIGTERM to its end, and from its start until it was ready; each the longest."""

    process: str
    times: int
    to_end_s: float
    to_ready_s: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. ``copies`` counts mails beyond the first of each; ``longest_gap_s`` is the longest time in which
    no mail arrived, while mail was published."""

    published: int
    seconds: float
    delivered: int
    arrived: int
    copies: int
    in_doubt: int
    difference: int
    longest_gap_s: float
    restarts: list[Restarts]


def publish(stack: Stack, ids: list[str], rate: float, enough: threading.Event) -> None:
    """Evenly, until told to stop; one in twenty is put off once by its site."""
    began = time.monotonic()
    while not enough.is_set():
        time.sleep(max(0.0, began + len(ids) / rate - time.monotonic()))
        number, each = len(ids), new_message_id()
        to = f"u{number}{'+defer1' if number % 20 == 0 else ''}@rolled{number % DOMAINS}.example"
        event = {
            "message_id": each,
            "tenant_id": "acme",
            "to": [{"email": to}],
            "subject": "A story",
            "text": "Once.\n",
        }
        stack.client.submit(event)
        ids.append(each)
    assert stack.client.flush(60) == 0


def restart(stack: Stack, name: str) -> tuple[float, float]:
    """Seconds to its end, and to readiness."""
    began = time.monotonic()
    stack.stop(name, timeout=90)
    ended = time.monotonic()
    stack.start(name)
    return ended - began, time.monotonic() - ended


def measure(stack: Stack, rate: float, rounds: int) -> Figures:
    """The run, on a stack of which everything runs."""
    ids: list[str] = []
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ORDER}
    enough = threading.Event()
    publishing = threading.Thread(target=publish, args=(stack, ids, rate, enough))
    began = time.monotonic()
    with stack.misbehaving(Behaviour(phase="dot", delay=0.1)):
        publishing.start()
        time.sleep(5)
        for number in range(rounds):
            for name in ORDER:
                took[name].append(restart(stack, name))
                sys.stdout.write(f"round {number + 1}: {name} {took[name][-1][0]:.1f} s, {took[name][-1][1]:.1f} s\n")
                time.sleep(2)
        enough.set()
        publishing.join()
    seconds = time.monotonic() - began
    wait_for(lambda: stack.equation(ids).delivered, lambda count: count == len(ids), 180, "all mails")
    equation = stack.equation(ids)
    wanted = {f"<{each}@acme.example>" for each in ids}
    copies = {name: count for name, count in stack.mailbox.copies().items() if name in wanted}
    doubtful = stack.query(
        "SELECT uniqExact(message_id) AS n FROM {db}.outcomes WHERE event_type = 'in_doubt' "
        "AND message_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    delivered = stack.query(
        "SELECT max(gap) / 1000 AS longest FROM (SELECT dateDiff('millisecond', lagInFrame(event_time, 1, event_time) "
        "OVER (ORDER BY event_time), event_time) AS gap FROM {db}.outcomes WHERE event_type = 'delivered')"
    )
    return Figures(
        published=len(ids),
        seconds=round(seconds, 1),
        delivered=equation.delivered,
        arrived=len(copies),
        copies=sum(copies.values()) - len(copies),
        in_doubt=doubtful[0]["n"],
        difference=equation.difference,
        longest_gap_s=round(delivered[0]["longest"], 1),
        restarts=[
            Restarts(name, len(times), round(max(end for end, _ in times), 1), round(max(up for _, up in times), 1))
            for name, times in took.items()
        ],
    )


def main() -> int:
    """Prints and keeps the figures; exit code 1 when a mail is missing, or came twice without being in doubt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=100.0, help="mails a second")
    parser.add_argument("--rounds", type=int, default=3, help="how often each process is restarted")
    parser.add_argument("--into", type=Path, default=RESULTS)
    options = parser.parse_args()
    machine = this_machine()
    shutil.rmtree(DATA, ignore_errors=True)
    chosen = Options(data=DATA, rules=RULES, counts={"deliver": 2}, first_port=20_000 + random.randrange(11_000))
    stack = Stack(plan(chosen, example_reference()))
    try:
        stack.start(*PARTS)
        stack.start(*(name for name in stack.names if name not in PARTS))
        figures = measure(stack, options.rate, options.rounds)
    finally:
        stack.close()
    sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(figures), indent=1).decode()}\n")
    sys.stdout.write(f"kept in {keep(options.into, 'rolling-restart', machine, figures)}\n")
    whole = figures.published == figures.delivered == figures.arrived and figures.difference == 0
    return 0 if whole and figures.copies <= figures.in_doubt else 1


if __name__ == "__main__":
    sys.exit(main())
