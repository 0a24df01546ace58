"""A ClickHouse whose disk is full takes no outcome; when there is room again, each is there once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.small_disk import make_room, small_disk

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.domain.outcome import Outcome
from sluice.ports.outcomes import Recorded, StoreAway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROWS = 2000
AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def batch(number: int) -> list[Recorded]:
    """Outcomes that do not compress well."""
    return [
        Recorded(
            Outcome(
                event_id=f"{number:08x}{row:024x}",
                event_type="delivered",
                event_time=AT,
                message_id=f"m-{number}-{row}",
                tenant_id="acme",
                reason=(hex(hash((number, row, 1))) + hex(hash((number, row, 2)))) * 8,
            ),
            0,
            number * ROWS + row,
        )
        for row in range(ROWS)
    ]


async def taken(store: ClickHouseOutcomes, number: int) -> bool:
    try:
        await store.store(f"token-{number}", batch(number), [])
    except StoreAway:
        return False
    return True


async def test_outcomes_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "40m"), EmbeddedClickHouse.on_free_port(disk / "clickhouse") as server:
        clickhouse = ClickHouse(Target(server.url, database="full"))
        migrations.apply(clickhouse)
        store = ClickHouseOutcomes(clickhouse)
        stored = 0
        while await taken(store, stored):
            stored += 1
        assert 2 < stored < 500
        make_room(disk, "300m")
        for number in range(stored, stored + 2):
            assert await taken(store, number)
        (found,) = clickhouse.rows(
            "SELECT (SELECT count() FROM full.outcomes) AS rows, (SELECT sum(outcomes) FROM full.outcomes_per_minute) "
            "AS counted, (SELECT uniqExact(event_id) FROM full.outcomes) AS different"
        )
        wanted = (stored + 2) * ROWS
        assert (found["rows"], found["counted"], found["different"]) == (wanted, wanted, wanted)
        clickhouse.close()
