"""A compose worker over the shipped twins and the real renderer and signer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from sluice.adapters.dkim.signer import DkimSigner
from sluice.adapters.jinja.renderer import JinjaRenderer
from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.load import MemoryLoad
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.memory.seen_log import MemorySeenLog
from sluice.adapters.rules.loader import load_rules
from sluice.compose.handler import ComposeHandler
from sluice.compose.sites import Sites
from sluice.compose.step import Composer
from sluice.domain.admission import Limits
from sluice.domain.catalogue import Catalogue
from sluice.domain.conclusion import Recorder
from sluice.domain.mail import Headers, Mail, read_mail
from sluice.domain.outcome import Outcome, decode_outcome
from sluice.domain.routing import RouteTable
from sluice.domain.topics import DEAD, IDEMPOTENCY, OUTCOME, READY, SEND, TEMPLATES, TENANTS, WHEEL
from sluice.ports.intake import Taken
from sluice.ports.renderer import Renderer

PARTITIONS = 4
TOPICS = dict.fromkeys((*SEND.values(), *READY.values(), OUTCOME, IDEMPOTENCY), PARTITIONS) | dict.fromkeys(
    (*WHEEL.values(), DEAD), 1
)
TENANT: dict[str, Any] = {
    "tenant_id": "acme",
    "domains": ["acme.example"],
    "from": {"email": "shop@acme.example", "name": "Acme"},
    "variables": {"brand": "Acme"},
}
TEMPLATE: dict[str, Any] = {
    "tenant_id": "acme",
    "template_id": "hello",
    "version": 1,
    "locales": {"en": {"subject": "Hello {{ name }}", "text": "{{ brand }} greets {{ name }}"}},
}


class Worker:
    """One compose worker. Several may share a bus, as after a crash."""

    def __init__(
        self,
        keys: Path,
        *,
        bus: MemoryBus | None = None,
        clock: MemoryClock | None = None,
        routes: str = "*=smtp://mx.test:25",
        resolver: MemoryResolver | None = None,
        tenant: dict[str, Any] | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self.bus = bus or MemoryBus(TOPICS)
        self.clock = clock or MemoryClock()
        self.catalogue = Catalogue()
        self.catalogue.apply(TENANTS, b"acme", json.dumps({**TENANT, **(tenant or {})}).encode())
        self.catalogue.apply(TEMPLATES, b"acme|hello|1", json.dumps(TEMPLATE).encode())
        self.failures: list[BaseException] = []
        recorder = Recorder("test", b"key")
        table = RouteTable.parse(routes)
        sites = Sites(load_rules().sites, table, resolver or MemoryResolver({}, {}), self.clock)
        composer = Composer(
            reference=self.catalogue,
            renderer=renderer or JinjaRenderer(),
            signer=DkimSigner(keys),
            recorder=recorder,
            limits=Limits(),
            site_of=sites.settled,
        )
        self.load = MemoryLoad()
        self.handler = ComposeHandler(
            load=self.load,
            composer=composer,
            recorder=recorder,
            sites=sites,
            seen_log=MemorySeenLog(self.bus),
            bus=self.bus,
            clock=self.clock,
            fatal=self.failures.append,
        )
        self.done: list[int] = []
        self._offset = 0

    def event(self, message_id: str = "m1", **given: Any) -> dict[str, Any]:
        """A send event with ordinary values; None takes a field away."""
        body: dict[str, Any] = {
            "message_id": message_id,
            "tenant_id": "acme",
            "to": [{"email": "ann@site.example", "name": "Ann"}],
            "subject": "Hi",
            "text": "Hello\n",
        }
        return {name: value for name, value in {**body, **given}.items() if value is not None}

    def record(
        self,
        event: dict[str, Any] | bytes,
        *,
        priority: str = "normal",
        partition: int = 0,
        headers: Headers | None = None,
    ) -> Taken:
        """A record of ``mail.send.*`` at the next offset."""
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        offset, self._offset = self._offset, self._offset + 1
        return Taken(f"mail.send.{priority}", partition, offset, b"k", value, headers or [], self.clock.now())

    async def take(self, *records: Taken) -> None:
        """Load the partitions, then compose until there is nothing left."""
        for partition in {record.partition for record in records}:
            if partition not in self.handler._seen:
                await self.handler.assigned(partition)
        for record in records:
            self.handler.take(record, lambda offset=record.offset: self.done.append(offset))
        composing = asyncio.create_task(self.handler.compose_forever())
        for _ in range(200):
            await asyncio.sleep(0)
        composing.cancel()

    async def send(self, event: dict[str, Any] | bytes, **given: Any) -> None:
        """Take one event."""
        await self.take(self.record(event, **given))

    @property
    def mails(self) -> list[Mail]:
        """Mails composed so far."""
        return [
            read_mail(record.headers, record.value or b"") for topic in READY.values() for record in self.bus.all(topic)
        ]

    @property
    def outcomes(self) -> list[Outcome]:
        """Outcomes so far."""
        return [decode_outcome(record.value or b"") for record in self.bus.all(OUTCOME)]

    @property
    def only(self) -> Outcome:
        """The one outcome."""
        (outcome,) = self.outcomes
        return outcome
