"""Reference data is mirrored to ClickHouse as it changes; addresses only by their hash."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.mirror import ClickHouseReference
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.system.clock import SystemClock
from sluice.domain.reference import SiteControl, Suppression, Template, TemplateContent, Tenant
from sluice.domain.topics import SITES, SUPPRESSIONS, TEMPLATES, TENANTS, Layout, topics
from sluice.ports.bus import Record
from sluice.ports.follower import Part, Polled
from sluice.ports.intake import Taken
from sluice.record.agent import open_record
from sluice.record.mirror import Mirror
from sluice.runtime import console, wiring
from sluice.runtime.config import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT = datetime(2026, 5, 1, tzinfo=UTC)


class Log:
    """A follower of records that are given to it."""

    def __init__(self) -> None:
        self.coming: list[Taken] = []
        self.committed: dict[Part, int] = {}
        self._offset = 0

    def says(self, topic: str, key: str, value: Any) -> None:
        encoded = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
        self.coming.append(Taken(topic, 0, self._offset, key.encode(), encoded, [], AT.timestamp()))
        self._offset += 1

    async def poll(self, wait: float) -> Polled:
        if not self.coming:
            await asyncio.sleep(0.01)
        found, self.coming = self.coming, []
        return Polled(found)

    async def commit(self, offsets: dict[Part, int]) -> None:
        self.committed |= offsets

    def pause(self, parts: set[Part]) -> None: ...

    def resume(self, parts: set[Part]) -> None: ...

    async def close(self) -> None: ...


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_holds_now_is_mirrored_and_mirroring_again_changes_nothing(tmp_path: Path) -> None:
    with EmbeddedClickHouse.on_free_port(tmp_path) as server:
        clickhouse = ClickHouse(Target(server.url))
        log, stop = Log(), asyncio.Event()
        mirror = Mirror(
            follower=log, mirror=ClickHouseReference(clickhouse), clock=SystemClock(), hashed=lambda a: f"hash-{len(a)}"
        )
        running = asyncio.create_task(mirror.run(stop))
        log.says(TENANTS, "acme", Tenant(tenant_id="acme", domains=["acme.example"], name="Acme", rate="100/s"))
        await asyncio.sleep(0.3)
        assert log.committed == {}, "nothing is finished while ClickHouse has no tables"
        migrations.apply(clickhouse)
        await until(lambda: (TENANTS, 0) in log.committed)

        log.says(TENANTS, "acme", Tenant(tenant_id="acme", domains=["acme.example"], name="Acme Ltd"))
        log.says(TENANTS, "gone", Tenant(tenant_id="gone", domains=["gone.example"]))
        log.says(TENANTS, "gone", None)
        log.says(TENANTS, "odd", b"no json")
        content = {"en": TemplateContent(subject="Hi {{ n }}"), "de": TemplateContent(subject="Hallo")}
        log.says(TEMPLATES, "acme|hello|2", Template(tenant_id="acme", template_id="hello", version=2, locales=content))
        jo = Suppression(tenant_id="acme", email="jo@x.example", reason="complained", created_at=AT)
        log.says(SUPPRESSIONS, "acme|*|jo@x.example", jo)
        log.says(SUPPRESSIONS, "acme|broadcast|li@xy.example", msgspec.structs.replace(jo, stream="broadcast"))
        log.says(SUPPRESSIONS, "acme|broadcast|li@xy.example", None)
        log.says(SITES, "slow.example", SiteControl(site="slow.example", reason="asked", by="jo@machine", at=AT))
        everything = list(log.coming)
        await until(lambda: (SITES, 0) in log.committed)
        log.coming += everything
        log.committed.clear()
        await until(lambda: (SITES, 0) in log.committed)
        stop.set()
        await running

        def rows(table: str, columns: str) -> list[dict[str, Any]]:
            return clickhouse.rows(f"SELECT {columns} FROM sluice.{table} FINAL")

        assert rows("ref_tenants", "tenant_id, name, rate, active") == [
            {"tenant_id": "acme", "name": "Acme Ltd", "rate": "", "active": 1}
        ]
        assert rows("ref_templates", "template_id, version, locales, subject") == [
            {"template_id": "hello", "version": 2, "locales": ["de", "en"], "subject": "Hi {{ n }}"}
        ]
        assert rows("ref_suppressions", "stream, recipient_hash, reason, created_at") == [
            {"stream": "", "recipient_hash": "hash-12", "reason": "complained", "created_at": AT}
        ]
        assert rows("ref_sites", "site, reason, until") == [{"site": "slow.example", "reason": "asked", "until": None}]
        with contextlib.suppress(Exception):
            clickhouse.close()


async def test_the_record_service_mirrors_beside_recording(tmp_path: Path) -> None:
    broker = EmbeddedKafka.on_free_ports(tmp_path / "kafka")
    await asyncio.to_thread(broker.start)
    try:
        with EmbeddedClickHouse.on_free_port(tmp_path / "clickhouse") as server:
            settings = load_settings(kafka_bootstrap=broker.bootstrap, clickhouse_url=server.url)
            clickhouse = ClickHouse(Target(server.url))
            migrations.apply(clickhouse)
            console.topic_admin(settings).apply(topics(Layout()))
            service = await open_record(settings)
            await service.start()
            tenant = Tenant(tenant_id="acme", domains=["acme.example"])
            bus = wiring.bus(settings)
            await bus.publish(Record(TENANTS, msgspec.json.encode(tenant), b"acme"))
            counted = "SELECT count() AS n FROM sluice.ref_tenants FINAL"
            await until(lambda: clickhouse.rows(counted)[0]["n"] == 1)
            assert service.health.live
            await service.stop()
            await bus.close()
            clickhouse.close()
    finally:
        await asyncio.to_thread(broker.stop)
