"""A Sluice on this machine to measure: start it, publish to it, watch mails come out, and see what it uses."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from machine import SCRATCH
from processes import resident

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.client import Client
from sluice.domain.errors import SluiceError
from sluice.domain.events import Priority
from sluice.local.bench import RULES, Load, bench_events, bench_reference
from sluice.local.cpu import cpu_seconds
from sluice.local.options import Options
from sluice.local.running import Interrupted, Running, running
from sluice.local.stack import LocalStack, plan

FIRST_PORT = 21_000
LOOK_EVERY = 0.5
SETTLED_S = 2.0
"""Seconds after which a producer's first mails, which come all at once, are in nobody's way."""
T = TypeVar("T")
DATA = SCRATCH / "run" / "sluice"
"""On the disk that the systems compared with have their queues on."""


class Stuck(SluiceError):
    """Mails stopped coming out before all were there."""


class Look(msgspec.Struct, frozen=True):
    """One look at a running Sluice: when (seconds since the epoch), how many, and CPU seconds by process."""

    at: float
    count: int
    cpu: dict[str, float]


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


@contextmanager
def told(name: str) -> Iterator[None]:
    """Ends the program with a sentence for what stands in the way, and after a request to stop."""
    stop_on_sigterm()
    try:
        yield
    except SluiceError as error:
        sys.exit(f"{name}: {error}")
    except (Interrupted, KeyboardInterrupt):
        sys.exit(f"{name}: stopped")


def stop_on_sigterm() -> None:
    """SIGTERM ends what runs in this thread as ctrl-c does. A stack that ran has taken the signal's handler away."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def four_kilobytes(mails: int, *, size: int = 4096, domains: int = 50) -> Load:
    """Mails from a template, signed by RSA-2048 alone, as Postfix and Haraka sign."""
    return Load(mails=mails, warm_up=0, size=size, domains=domains, templated=True, selectors=("rsa",))


class Sluice:
    """A stack whose processes are ready."""

    def __init__(self, run: Running, load: Load) -> None:
        self._run = run
        self._load = load
        self._bootstrap = run.stack.settings.kafka_bootstrap
        self._clickhouse = run.stack.clickhouse

    @property
    def stack(self) -> LocalStack:
        """What was started."""
        return self._run.stack

    @property
    def keys(self) -> Path:
        """The folder of DKIM keys: DOMAIN/SELECTOR.pem."""
        return self._run.stack.folder.keys

    async def publish(self, campaign: str, count: int, priority: Priority = "normal") -> float:
        """As fast as the SDK can; returns when it began, seconds since the epoch."""
        began = time.time()
        await asyncio.to_thread(self._publish, campaign, count, priority)
        return began

    async def publish_evenly(self, campaign: str, rate: float, seconds: float, priority: Priority) -> int:
        """``rate`` mails a second for ``seconds``; returns how many."""
        return await asyncio.to_thread(self._publish_evenly, campaign, rate, seconds, priority)

    async def count(self, campaign: str, kind: str = "delivered") -> int:
        """Mails of a campaign whose outcome ``kind`` is in ClickHouse."""
        rows = await self._rows(
            "SELECT uniqExact(rfc5322_message_id) AS n FROM {db}.outcomes "
            "WHERE campaign_id = {campaign:String} AND event_type = {kind:String}",
            campaign,
            kind,
        )
        return int(rows[0]["n"])

    async def wait_for(self, campaign: str, count: int, kind: str = "delivered", patience: float = 45.0) -> list[Look]:
        """All looks taken until ``count`` mails were there; raises :class:`Stuck` after ``patience`` s without one."""
        looks = [Look(time.time(), 0, self.cpu())]
        told = moved = time.monotonic()
        while looks[-1].count < count:
            found = await self.count(campaign, kind)
            if found > looks[-1].count:
                moved = time.monotonic()
            looks.append(Look(time.time(), found, self.cpu()))
            if time.monotonic() - moved > patience:
                others = await self._ended_otherwise(campaign, kind)
                raise Stuck(
                    f"{campaign}: {found} of {count} {kind}, none more for {patience:g} s; the others: {others}"
                )
            if time.monotonic() - told > 5:
                told = time.monotonic()
                say(f"  {campaign}: {found:,} of {count:,} {kind}")
            await asyncio.sleep(LOOK_EVERY)
        return looks

    async def _ended_otherwise(self, campaign: str, kind: str) -> str:
        """How far those mails of a campaign came, as outcomes tell, that have not come to ``kind``."""
        rows = await self._rows(
            "SELECT last, count() AS n FROM (SELECT message_id, argMax(concat(event_type, ' ', category, ' ', reason), "
            "event_time) AS last FROM {db}.outcomes WHERE campaign_id = {campaign:String} GROUP BY message_id "
            "HAVING countIf(event_type = {kind:String}) = 0) GROUP BY last ORDER BY n DESC LIMIT 5",
            campaign,
            kind,
        )
        return ", ".join(f"{row['n']} {row['last'].strip()}" for row in rows) or "not heard of yet"

    async def milliseconds(self, campaign: str, kind: str = "delivered") -> list[int]:
        """From publish to 250, or to another ``kind`` of outcome, ascending."""
        rows = await self._rows(
            "SELECT dateDiff('millisecond', assumeNotNull(queued_at), event_time) AS took FROM {db}.outcomes "
            "WHERE campaign_id = {campaign:String} AND event_type = {kind:String} ORDER BY took",
            campaign,
            kind,
        )
        return [int(row["took"]) for row in rows]

    async def moments(self, campaign: str, kind: str = "delivered") -> list[float]:
        """When each mail of a campaign came to ``kind``, ascending, seconds since the epoch."""
        rows = await self._rows(
            "SELECT toUnixTimestamp64Milli(event_time) / 1000 AS at FROM {db}.outcomes "
            "WHERE campaign_id = {campaign:String} AND event_type = {kind:String} ORDER BY at",
            campaign,
            kind,
        )
        return [float(row["at"]) for row in rows]

    async def last_stored(self, campaign: str) -> float:
        """When the last delivered outcome came into ClickHouse, seconds since the epoch."""
        rows = await self._rows(
            "SELECT toUnixTimestamp64Milli(max(recorded_at)) / 1000 AS at FROM {db}.outcomes "
            "WHERE campaign_id = {campaign:String} AND event_type = {kind:String}",
            campaign,
        )
        return float(rows[0]["at"])

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by process; ``producer`` is this one, which looks on too."""
        used = {child.name: cpu_seconds(child.pid) for child in self._run.status() if child.pid is not None}
        return {**used, "producer": cpu_seconds(os.getpid())}

    def memory(self) -> dict[str, int]:
        """Bytes resident, by process."""
        return {child.name: resident(child.pid) for child in self._run.status() if child.pid is not None}

    async def _rows(self, sql: str, campaign: str, kind: str = "delivered") -> list[dict[str, Any]]:
        text = sql.replace("{db}", self._clickhouse.database)
        return await asyncio.to_thread(self._clickhouse.rows, text, {"campaign": campaign, "kind": kind})

    def _publish(self, campaign: str, count: int, priority: Priority) -> None:
        with Client(self._bootstrap, source="bench") as client:
            summary = client.send_many(bench_events(self._load, campaign, count), priority)
        if summary.published != count:
            raise Stuck(f"only {summary.published} of {count} events could be published: {summary.failures}")

    def _publish_evenly(self, campaign: str, rate: float, seconds: float, priority: Priority) -> int:
        count = max(1, round(rate * seconds))
        with Client(self._bootstrap, source="bench") as client:
            # The first mail of a producer waits until it is known to every broker, which says nothing about Sluice.
            client.send_many(bench_events(self._load, f"before-{campaign}", 20), priority)
            time.sleep(SETTLED_S)
            began = time.monotonic()
            for number, event in enumerate(islice(bench_events(self._load, campaign, count), count)):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                client.submit(event, priority)
        return count

    def close(self) -> None:
        """Let go of ClickHouse."""
        self._clickhouse.close()


def with_sluice(
    work: Callable[[Sluice], Awaitable[T]],
    load: Load,
    *,
    counts: dict[str, int],
    smtp_port: int | None = None,
    rules: Path = RULES,
    fresh: bool = True,
    lasting: bool = False,
) -> T:
    """Start everything, do ``work``, stop everything. Call it in the main thread.

    Mail goes to 127.0.0.1:``smtp_port``, or to Sluice's own sink. ``fresh`` begins with an empty folder; without it,
    what an earlier stack left is gone on with. ``lasting`` is a broker that wants to be warmed up with tens
    of thousands of mails.
    """
    set_up_logs("bench", "local", level="error", form="console")
    if fresh:
        shutil.rmtree(DATA, ignore_errors=True)
    options = Options(
        data=DATA,
        sink="fast",
        counts={"wheel": 1, "record": 1, **counts},
        rules=rules,
        examples=fresh,
        first_port=FIRST_PORT,
        lasting=lasting,
        smtp=None if smtp_port is None else f"127.0.0.1:{smtp_port}",
    )
    stack = plan(options, bench_reference(load), say=say)

    async def run() -> T:
        async with running(stack) as run:
            sluice = Sluice(run, load)
            try:
                return await run.during(work(sluice))
            finally:
                sluice.close()

    say(f"starting Sluice: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    return asyncio.run(run())


def per_mail(before: dict[str, float], after: dict[str, float], mails: int) -> dict[str, float]:
    """Milliseconds of CPU per mail by process."""
    return {name: round((used - before.get(name, 0.0)) * 1000 / mails, 3) for name, used in after.items()}


def percentile(ascending: list[int], share: float) -> int:
    """The value that ``share`` (0 to 1) of them do not exceed."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]
