"""A deliver worker over the shipped twins: real decisions, no network, time that is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.demands import MemoryDemands
from sluice.adapters.memory.ledger_log import MemoryLedgerLog
from sluice.adapters.memory.mailer import MemoryMailer
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.rules.loader import load_rules
from sluice.deliver.books import Books
from sluice.deliver.departures import Departures
from sluice.deliver.handler import DeliverHandler
from sluice.deliver.paths import Paths
from sluice.deliver.protections import Protections
from sluice.deliver.senders import Senders
from sluice.deliver.shared_limits import LimitBook, SharedLimits
from sluice.deliver.step import Attempts
from sluice.domain.conclusion import Recorder
from sluice.domain.egress import Egress, Egresses
from sluice.domain.mail import Envelope, Mail, Progress, ready_headers
from sluice.domain.outcome import Outcome, decode_outcome
from sluice.domain.priorities import Priorities
from sluice.domain.reference import Tenant
from sluice.domain.routing import RouteTable
from sluice.domain.rules import Rules
from sluice.domain.sharing import Shares
from sluice.domain.site import lane_partition
from sluice.domain.smtp import Replied
from sluice.domain.topics import DEAD, OUTCOME, READY, SUPPRESSIONS, WHEEL
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction

PARTITIONS = 4
TOPICS = dict.fromkeys((*READY.values(), OUTCOME), PARTITIONS) | dict.fromkeys((*WHEEL.values(), DEAD, SUPPRESSIONS), 1)


ONE_EGRESS = Egresses([Egress("default", "test.example")])


class Worker:
    """One deliver worker. Several may share a bus, as after a crash."""

    def __init__(
        self,
        *,
        bus: MemoryBus | None = None,
        clock: MemoryClock | None = None,
        mailer: MemoryMailer | None = None,
        rules: Rules | None = None,
        routes: str = "*=smtp://mx.test:25?tls=none",
        resolver: MemoryResolver | None = None,
        patience: float = 8.0,
        suspended_until: Callable[[str], float] = lambda _: 0.0,
        limits: LimitBook | None = None,
        demands: MemoryDemands | None = None,
        name: str = "test",
        budget: int = 100,
        priorities: Priorities = Priorities(),  # noqa: B008  frozen
        egresses: Egresses = ONE_EGRESS,
        tenant: Callable[[str], Tenant | None] = lambda _: None,
        protections: Protections | None = None,
    ) -> None:
        self.bus = bus or MemoryBus(TOPICS)
        self.clock = clock or MemoryClock()
        self.mailer = mailer or MemoryMailer()
        self.failures: list[BaseException] = []
        self.partitions = PARTITIONS
        rules = rules or load_rules()
        books = Books(self.bus, Recorder("test", b"key"), self.failures.append)
        attempts = Attempts(books, self.clock, rules, lambda: 0.5)
        paths = Paths(
            RouteTable.parse(routes),
            resolver or MemoryResolver({}, {}),
            self.clock,
            (),
            protections,
            private_addresses=True,
        )
        self.shared = SharedLimits(
            limits or LimitBook(lambda _: None),
            Shares(name),
            demands or MemoryDemands(self.clock),
            self.clock,
            lambda item, until, limit: attempts.throttled(item, until, "rate", limit),
            patience=patience,
        )
        self.senders = Senders(
            self.mailer,
            paths,
            attempts,
            self.clock,
            budget=budget,
            patience=patience,
            gate=self.shared,
            departures=Departures(egresses, tenant),
            priorities=priorities,
        )
        self.handler = DeliverHandler(
            books=books,
            attempts=attempts,
            senders=self.senders,
            paths=paths,
            ledger_log=MemoryLedgerLog(self.bus),
            rules=rules,
            clock=self.clock,
            partitions=lambda: self.partitions,
            patience=patience,
            suspended_until=suspended_until,
        )
        self.shared.go_on = self.handler.go_on
        self.done: list[int] = []
        self._offset = 0

    def envelope(self, message_id: str, **given: Any) -> Envelope:
        """An envelope with ordinary values."""
        now = self.clock.now()
        domain = given.pop("domain", "site.example")
        values: dict[str, Any] = {
            "message_id": message_id,
            "rfc5322_message_id": f"{message_id}@acme.example",
            "tenant_id": "acme",
            "stream": "transactional",
            "priority": "normal",
            "mail_from": "from@acme.example",
            "rcpt_to": f"{message_id}@{domain}",
            "domain": domain,
            "site": domain,
            "lane": f"{domain}#0",
            "size": 20,
            "queued_at": now,
            "composed_at": now,
            "expires_at": now + 86_400,
        }
        return Envelope(**{**values, **given})

    def record(
        self,
        envelope: Envelope,
        *,
        progress: Progress | None = None,
        offset: int | None = None,
        partition: int | None = None,
    ) -> Taken:
        """A record of ``mail.ready.*`` at the lane's partition and the next offset."""
        mail = Mail(envelope, b"Subject: x\r\n\r\nbody\r\n", progress or Progress())
        if offset is None:
            offset, self._offset = self._offset, self._offset + 1
        home = lane_partition(envelope.lane, self.partitions) if partition is None else partition
        headers = ready_headers(mail, time="2026-01-01T00:00:00Z")
        return Taken(READY[envelope.priority], home, offset, b"k", mail.content, headers, self.clock.now())

    async def take(self, *records: Taken) -> None:
        """Own the records' partitions and take them in."""
        for record in records:
            if record.partition not in self.handler._ledgers:
                await self.handler.assigned(record.partition)
            self.handler.take(record, lambda offset=record.offset: self.done.append(offset))
        await self.settle()

    async def settle(self) -> None:
        """Let everything run that needs no time."""
        for _ in range(400):
            await asyncio.sleep(0)

    def outcomes(self, kind: str | None = None) -> list[Outcome]:
        """Outcomes written so far."""
        found = [
            decode_outcome(record.value or b"")
            for record in self.bus.all(OUTCOME)
            if ("ce_type", b"sluice.outcome.v1") in record.headers
        ]
        return [outcome for outcome in found if kind is None or outcome.event_type == kind]

    def waiting(self) -> list[tuple[str, float]]:
        """Tier and seconds left of what was put into the wheel."""
        return [
            (topic.rpartition(".")[2], int(dict(record.headers)["not-before"]) / 1000 - self.clock.now())
            for topic in WHEEL.values()
            for record in self.bus.all(topic)
        ]

    async def close(self) -> None:
        """End the sender agents."""
        await self.senders.close()


class Gate(asyncio.Event):
    """An answer for a :class:`MemoryMailer`: the mail is taken once the gate is set."""

    async def __call__(self, _: Transaction) -> Replied:
        await self.wait()
        return Replied("dot", 250, "ok")


def rules_with(**site: Any) -> Rules:
    """The built-in rules with another default site."""
    rules = load_rules()
    default = msgspec.structs.replace(rules.sites.default, **site)
    return msgspec.structs.replace(rules, sites=type(rules.sites)(default, rules.sites.groups, rules.sites.penalty))
