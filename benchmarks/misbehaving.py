"""A session against a server that misbehaves in turns, recorded and drawn: ``python benchmarks/misbehaving.py``.

A whole Sluice runs on this machine with rules of its own (``benchmarks/misbehaving_rules``). Mail comes steadily: to
``storm.example``, whose server changes its manners by phase, and to well-behaved domains beside it. What is shown is
read back from ClickHouse (outcomes) and from the checkpoints in ``mail.outcome`` (the rate in force).
``--redraw FILE`` draws an earlier session again.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
from harness import FIRST_PORT, say
from machine import RESULTS, ROOT, Measured, keep, this_machine
from misbehaving_figures import Session, Span, read_session
from misbehaving_picture import draw
from misbehaving_server import Manner, MisbehavingServer

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.client import Client
from sluice.domain.errors import SluiceError
from sluice.local.options import Options
from sluice.local.running import running
from sluice.local.seed import default_tenant
from sluice.local.stack import LocalStack, plan

RULES = Path(__file__).with_name("misbehaving_rules")
PICTURE = ROOT / "docs" / "pictures" / "misbehaving-server.svg"
DATA = ROOT / ".tools" / "misbehaving"
SITE = "storm.example"
OTHERS = tuple(f"calm{number}.example" for number in range(1, 5))
CAMPAIGN = "session"
PHASES: tuple[tuple[str, Manner, float], ...] = (
    ("fine", "fine", 15),
    ("421 storm", "storm", 8),
    ("fine", "fine", 90),
    ("greylisting", "greylisting", 30),
    ("slow banner", "slow banner", 30),
    ("cut connections", "disconnects", 25),
    ("garbage", "garbage", 20),
    ("60-line replies", "multi-line", 20),
    ("fine", "fine", 45),
)
WARM_UP = 4.0
DRAINED_WITHIN = 60.0


def publish(bootstrap: str, storm: float, others: float, seconds: float) -> Counter[str]:
    """``storm`` and ``others`` mails a second for ``seconds``, evenly; returns how many, by domain."""
    counts: Counter[str] = Counter()
    rate = storm + others
    with Client(bootstrap, source="bench") as client:
        client.partitions("mail.send.normal")
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            to_storm = int((number + 1) * storm / rate) > int(number * storm / rate)
            domain = SITE if to_storm else OTHERS[number % len(OTHERS)]
            counts[domain] += 1
            client.submit(
                {
                    "tenant_id": "acme",
                    "campaign_id": CAMPAIGN,
                    "to": [{"email": f"user{number}@{domain}"}],
                    "subject": f"Order {number} is on its way",
                    "text": "Your order is on its way.\n" * 60,
                },
                "normal",
            )
    return counts


async def play(stormy: MisbehavingServer, began: float) -> list[Span]:
    """Go through the phases; returns when each was, in seconds since ``began`` (since the epoch)."""
    spans: list[Span] = []
    for name, manner, seconds in PHASES:
        begins = time.time() - began
        stormy.manner = manner
        if manner in ("slow banner", "disconnects"):
            stormy.cut_all()  # these only show on new connections
        say(f"  {begins:5.0f} s  {name}")
        await asyncio.sleep(seconds)
        spans.append(Span(name, round(begins, 2), round(time.time() - began, 2)))
    return spans


async def session(stack: LocalStack, stormy: MisbehavingServer, rates: list[float]) -> Session:
    """One session on a stack that is planned."""
    storm, others = rates
    async with running(stack) as run:

        async def work() -> Session:
            bootstrap = stack.settings.kafka_bootstrap
            await asyncio.to_thread(publish, bootstrap, storm, others, WARM_UP)
            await asyncio.sleep(3)
            length = sum(seconds for *_, seconds in PHASES)
            began = time.time()
            publishing = asyncio.create_task(asyncio.to_thread(publish, bootstrap, storm, others, length))
            spans = await play(stormy, began)
            published = await publishing
            await _drained(stormy, sum(n for domain, n in published.items() if domain == SITE), began)
            await asyncio.sleep(3)
            return await asyncio.to_thread(read_session, stack, SITE, CAMPAIGN, began, spans, published, stormy)

        return await run.during(work())


async def _drained(server: MisbehavingServer, count: int, began: float) -> None:
    for _ in range(int(DRAINED_WITHIN / 0.5)):
        if len({who for at, who in server.taken if at >= began}) >= count:
            return
        await asyncio.sleep(0.5)


async def run(rates: list[float]) -> Session:
    """Both servers and the stack, for one session."""
    shutil.rmtree(DATA, ignore_errors=True)
    async with MisbehavingServer() as stormy, MisbehavingServer() as calm:
        routes = f"{SITE}=smtp://127.0.0.1:{stormy.port}?tls=none,*=smtp://127.0.0.1:{calm.port}?tls=none"
        options = Options(
            data=DATA,
            smtp=f"127.0.0.1:{calm.port}",
            rules=RULES,
            examples=True,
            first_port=FIRST_PORT + 700,
            environment={"SLUICE_ROUTES": routes},
        )
        stack = await asyncio.to_thread(plan, options, [default_tenant()], say)
        say("starting Sluice")
        return await session(stack, stormy, rates)


def main() -> int:
    """Run, keep, draw; or draw again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storm", type=float, default=12.0, help="mails a second to storm.example (%(default)s)")
    parser.add_argument("--others", type=float, default=38.0, help="mails a second to the other domains (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="the SVG file (%(default)s)")
    parser.add_argument("--redraw", type=Path, help="a JSON file of an earlier session")
    options = parser.parse_args()
    if options.redraw is None:
        set_up_logs("bench", "local", level="error", form="console")
        machine = this_machine()
        try:
            found = asyncio.run(run([options.storm, options.others]))
        except SluiceError as error:
            print(f"misbehaving: {error}", file=sys.stderr)
            return 1
        print(keep(options.results, "misbehaving", machine, found))
        print(msgspec.json.format(msgspec.json.encode(found.summary)).decode())
    else:
        found = msgspec.json.decode(options.redraw.read_bytes(), type=Measured[Session]).figures
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_text(draw(found), encoding="utf-8")
    print(options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
