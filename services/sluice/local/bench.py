"""The benchmark: mails per second from publish to 250, with every outcome in ClickHouse."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.client import Client
from sluice.domain.errors import SluiceError
from sluice.domain.reference import Template, TemplateContent
from sluice.local import seed
from sluice.local.cpu import cpu_model, cpu_seconds
from sluice.local.options import Options
from sluice.local.running import Running
from sluice.local.traffic import domain_names

RULES = Path(__file__).with_name("bench_rules")
WARM_UP, MEASURED = "warm-up", "measured"
"""Campaigns, by which the two are told apart."""
LOOK_EVERY = 0.5
Say = Callable[[str], None]
Sink = Literal["mailbox", "fast"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. ``size`` is about how many bytes a composed mail has; ``selectors`` are the keys that sign."""

    mails: int
    warm_up: int
    size: int
    domains: int
    templated: bool
    selectors: tuple[str, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. Rates are mails per second from the first publish; times are seconds, ``_ms`` milliseconds."""

    load: Load
    sink: Sink
    processes: dict[str, int]
    cores: int
    processor: str
    delivered: int
    publishing: float
    until_last_250: float
    until_last_outcome: float
    mails_per_second: float
    """Until the last 250 and the last outcome in ClickHouse, whichever was later."""
    mails_per_second_to_250: float
    mean_size: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_mail: dict[str, float]
    """By process; ``producer`` is this one, which also looks on."""

    @property
    def cpu_ms_in_all(self) -> float:
        """Milliseconds of processor time per mail, over all processes."""
        return sum(self.cpu_ms_per_mail.values())


class BenchFailed(SluiceError):
    """Not every mail was delivered in time: there is no rate to tell."""


def bench_options(data: Path, sink: Sink, counts: dict[str, int], *, first_port: int | None = None) -> Options:
    """The stack that is measured."""
    return Options(data=data, sink=sink, counts=counts, rules=RULES, examples=True, first_port=first_port)


def bench_reference(load: Load) -> list[seed.Reference]:
    """One tenant that signs as the load says, and its template."""
    filler = "<p>Dear {{ name }}, your order {{ order }} is on its way.</p>\n"
    items = "{% for item in items %}<tr><td>{{ item.name }}</td><td>{{ item.price }}</td></tr>\n{% endfor %}"
    # The table of items and the header fields with their signatures take about 1,900 bytes.
    body = filler * max(1, (load.size - 1900) // len(filler))
    content = TemplateContent(
        "Order {{ order }} is on its way",
        f"<html><body>\n{body}<table>{items}</table></body></html>\n",
        "Dear {{ name }},\nyour order {{ order }} is on its way.\n",
    )
    template = Template(tenant_id="acme", template_id="bench", version=1, locales={"en": content})
    return seed.signed_with([seed.default_tenant(), template], load.selectors)


class Bench:
    """One measurement over a stack that runs."""

    def __init__(self, run: Running, load: Load, sink: Sink, progress: Say, patience: float) -> None:
        """``patience`` is how many seconds may pass without one more outcome."""
        self._run = run
        self._stack = run.stack
        self._load = load
        self._sink: Sink = sink
        self._progress = progress
        self._patience = patience

    async def measure(self) -> Result:
        """Warm up, then measure. Raises :class:`BenchFailed`."""
        await asyncio.to_thread(self._send, WARM_UP, self._load.warm_up)
        await self._until_stored(WARM_UP, self._load.warm_up)
        used_before = self._cpu()
        began = time.time()
        publishing = await asyncio.to_thread(self._send, MEASURED, self._load.mails)
        await self._until_stored(MEASURED, self._load.mails)
        used_after = self._cpu()
        return await asyncio.to_thread(self._result, began, publishing, used_before, used_after)

    def _send(self, campaign: str, count: int) -> float:
        began = time.monotonic()
        with Client(self._stack.settings.kafka_bootstrap, source="bench") as client:
            summary = client.send_many(bench_events(self._load, campaign, count), "normal")
        if summary.published != count:
            raise BenchFailed(f"only {summary.published} of {count} events could be published: {summary.failures}")
        return time.monotonic() - began

    async def _until_stored(self, campaign: str, count: int) -> None:
        clickhouse = self._stack.clickhouse
        sql = (
            "SELECT count() AS n FROM {db}.outcomes WHERE campaign_id = {campaign:String} AND event_type = 'delivered'"
        )
        best, moved = -1, time.monotonic()
        try:
            while best < count:
                found = (await asyncio.to_thread(_rows, clickhouse, sql, campaign))[0]["n"]
                if found > best:
                    best, moved = found, time.monotonic()
                if time.monotonic() - moved > self._patience:
                    raise BenchFailed(f"{best} of {count} mails were delivered, and none more for {self._patience:g} s")
                self._progress(f"{campaign}: {found:,} of {count:,} delivered")
                await asyncio.sleep(LOOK_EVERY)
        finally:
            clickhouse.close()

    def _cpu(self) -> dict[str, float]:
        used = {child.name: cpu_seconds(child.pid) for child in self._run.status() if child.pid is not None}
        return {**used, "producer": cpu_seconds(os.getpid())}

    def _result(self, began: float, publishing: float, before: dict[str, float], after: dict[str, float]) -> Result:
        clickhouse = self._stack.clickhouse
        sql = (
            "SELECT rfc5322_message_id AS id, toUnixTimestamp64Milli(recorded_at) / 1000 AS recorded, "
            "dateDiff('millisecond', assumeNotNull(queued_at), event_time) AS took "
            "FROM {db}.outcomes WHERE campaign_id = {campaign:String} AND event_type = 'delivered'"
        )
        try:
            rows = _rows(clickhouse, sql, MEASURED)
        finally:
            clickhouse.close()
        wanted = {row["id"] for row in rows}
        got = [
            mail
            for mail in Mailbox(self._stack.folder.mailbox).received()
            if (mail.rfc5322_message_id or "").strip("<>") in wanted
        ]
        if len(wanted) != self._load.mails or len(got) < len(wanted):
            raise BenchFailed(f"{len(wanted)} outcomes and {len(got)} captured mails for {self._load.mails} published")
        until_250 = max(mail.replied_at or mail.dot_at for mail in got) - began
        until_outcome = max(row["recorded"] for row in rows) - began
        took = sorted(row["took"] for row in rows)
        mails = self._load.mails
        return Result(
            load=self._load,
            sink=self._sink,
            processes={name: self._stack.options.counts.get(name, 1) for name in ("compose", "deliver", "record")},
            cores=len(os.sched_getaffinity(0)),
            processor=cpu_model(),
            delivered=len(wanted),
            publishing=publishing,
            until_last_250=until_250,
            until_last_outcome=until_outcome,
            mails_per_second=mails / max(until_250, until_outcome),
            mails_per_second_to_250=mails / until_250,
            mean_size=sum(mail.size for mail in got) / len(got),
            p50_ms=took[len(took) // 2],
            p99_ms=took[len(took) * 99 // 100],
            cpu_ms_per_mail={name: (used - before.get(name, 0.0)) * 1000 / mails for name, used in after.items()},
        )


def bench_events(load: Load, campaign: str, count: int) -> Iterator[dict[str, Any]]:
    """``count`` events of ``campaign``, each for one recipient, to the domains in turn."""
    domains: Sequence[str] = domain_names(load.domains)
    html = "<p>Dear Jo, your order 10042 is on its way, and this line is here to be carried.</p>\n" * max(
        1, (load.size - 1900) // 86
    )
    for number in range(count):
        event: dict[str, Any] = {
            "tenant_id": "acme",
            "campaign_id": campaign,
            "to": [{"email": f"user{number}@{domains[number % len(domains)]}", "name": "Jo Müller"}],
        }
        if load.templated:
            variables = {
                "name": "Jo Müller",
                "order": f"A-{number}",
                "items": [{"name": f"Tea, kind {n}", "price": f"€ {n + 3}.20"} for n in range(8)],
            }
            event["template"] = {"id": "bench", "variables": variables}
        else:
            event |= {"subject": f"Order A-{number} is on its way", "html": html, "text": "It is on its way.\n"}
        yield event


def _rows(clickhouse: ClickHouse, sql: str, campaign: str) -> list[dict[str, Any]]:
    return clickhouse.rows(sql.replace("{db}", clickhouse.database), {"campaign": campaign})
