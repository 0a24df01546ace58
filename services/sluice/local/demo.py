"""The demo: publish the traffic, watch it until all is quiet, and see whether everything adds up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from sluice.adapters.clickhouse.client import ClickHouseAway
from sluice.adapters.clickhouse.queries import STATES, Equation, Queries
from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.client import Client, Receipt
from sluice.domain.errors import SluiceError
from sluice.domain.reference import Suppression
from sluice.local import seed
from sluice.local.options import Options
from sluice.local.reckoning import Ending, Line, Reckoning, per_outcome, per_site, reckon
from sluice.local.stack import LocalStack
from sluice.local.traffic import Mail, Raw, Traffic, waiting_at_end

RULES = Path(__file__).with_name("demo_rules")
MAILBOX_TIMEOUT = 12.0
"""Seconds that a hung conversation lasts in the demo; real servers are waited for up to ten minutes."""
LOOK_EVERY = 0.5
Say = Callable[[str], None]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; durations in seconds."""

    reckoning: Reckoning
    sites: list[Line]
    outcomes: list[Ending]
    quiet: bool
    """False when the time was up before all mails had ended."""
    publishing: float
    settling: float
    """From the first publish until all was quiet."""


class DemoFailed(SluiceError):
    """The demo's mails could not be published."""


def demo_options(data: Path) -> Options:
    """The stack that the demo runs on."""
    return Options(
        data=data,
        rules=RULES,
        behaviour=RULES / "behaviour.toml",
        mailbox_timeout=MAILBOX_TIMEOUT,
    )


def demo_reference() -> list[seed.Reference]:
    """The examples', and a few addresses that must not be mailed."""
    made = [
        msgspec.convert(
            {
                "tenant_id": "acme",
                "email": f"left{number}@oak.example",
                "reason": "unsubscribed",
                "created_at": "2026-01-05T09:00:00Z",
            },
            Suppression,
        )
        for number in range(4)
    ]
    return [*seed.example_reference(), *made]


def traffic(mails: int, domains: int, seed_number: int) -> Traffic:
    """The demo's mail."""
    suppressed = tuple(entry.email for entry in demo_reference() if isinstance(entry, Suppression) and not entry.stream)
    return Traffic(mails=mails, domains=domains, seed=seed_number, examples=seed.EXAMPLES, suppressed=suppressed)


class Demo:
    """One run over a stack that runs."""

    def __init__(self, stack: LocalStack, mails: Traffic, patience: float, progress: Say) -> None:
        """``patience`` is how many seconds after the last publish all mails must have ended."""
        self._stack = stack
        self._traffic = mails
        self._patience = patience
        self._progress = progress
        self._published = 0

    async def run(self) -> Report:
        """Publish, wait, reckon. Raises :class:`DemoFailed`."""
        began = time.monotonic()
        watching = asyncio.create_task(self._watch(began))
        try:
            await asyncio.to_thread(self._publish)
            published_at = time.monotonic()
            quiet = await self._settle(published_at + self._patience)
        finally:
            watching.cancel()
        settled_at = time.monotonic()
        reckoning, sites, outcomes = await asyncio.to_thread(self._reckon)
        return Report(
            reckoning=reckoning,
            sites=sites,
            outcomes=outcomes,
            quiet=quiet,
            publishing=published_at - began,
            settling=settled_at - began,
        )

    def _publish(self) -> None:
        bootstrap = self._stack.settings.kafka_bootstrap
        raw = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 2})
        with Client(bootstrap, source="demo") as client:
            pending: list[tuple[Future[Receipt], int]] = []
            for item in self._traffic:
                match item:
                    case Mail(event, priority, mails):
                        pending.append((client.submit(event, priority), mails))
                    case Raw(topic, key, value, mails):
                        raw.produce(topic, value, key)
                        self._published += mails
                if len(pending) >= 500:
                    self._count(pending)
            self._count(pending)
        if raw.flush(30):
            raise DemoFailed("Kafka did not acknowledge everything within 30 s")

    def _count(self, pending: list[tuple[Future[Receipt], int]]) -> None:
        for future, mails in pending:
            future.result(60)
            self._published += mails
        pending.clear()

    async def _settle(self, deadline: float) -> bool:
        later = waiting_at_end(self._traffic.examples)
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(self._equation)
            if found is not None and found.accepted >= self._published and found.waiting <= later:
                return True
            await asyncio.sleep(LOOK_EVERY)
        return False

    async def _watch(self, began: float) -> None:
        while True:
            found = await asyncio.to_thread(self._equation)
            if found is not None:
                states = ", ".join(f"{state} {getattr(found, state):,}" for state in STATES if getattr(found, state))
                self._progress(f"{time.monotonic() - began:3.0f} s: published {self._published:,} | {states}")
            await asyncio.sleep(2)

    def _equation(self) -> Equation | None:
        clickhouse = self._stack.clickhouse
        try:
            return Queries(clickhouse).equation()
        except ClickHouseAway:
            return None
        finally:
            clickhouse.close()

    def _reckon(self) -> tuple[Reckoning, list[Line], list[Ending]]:
        clickhouse = self._stack.clickhouse
        try:
            reckoning = reckon(clickhouse, Mailbox(self._stack.folder.mailbox), self._published)
            return reckoning, per_site(clickhouse), per_outcome(clickhouse)
        finally:
            clickhouse.close()
