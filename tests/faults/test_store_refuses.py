"""A ClickHouse whose disk is full takes no outcome; when there is room again, each is there once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
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


async def stand_still_by_turns(pid: int, still_s: float, going_s: float) -> None:
    """As a process does whose every write waits for a disk. Until cancelled; it goes on then."""
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(still_s)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(going_s)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_on_a_slow_disk_each_outcome_is_there_once_although_inserts_time_out(tmp_path: Path) -> None:
    """A batch whose insert ran out of time may be stored or not: it is given again, under the same token."""
    with EmbeddedClickHouse.on_free_port(tmp_path / "clickhouse") as server:
        clickhouse = ClickHouse(Target(server.url, database="slow"))
        migrations.apply(clickhouse)
        hurried = ClickHouse(Target(server.url, database="slow", timeout=2))
        store = ClickHouseOutcomes(hurried)
        assert server.pid is not None
        slow = asyncio.create_task(stand_still_by_turns(server.pid, 2.5, 0.3))
        tries = 0
        batches = 4
        for number in range(batches):
            while not await taken(store, number):
                tries += 1
                if tries > 10:
                    slow.cancel()
            tries += 1
        slow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slow
        assert tries > batches, "no insert ran out of time"
        (found,) = clickhouse.rows(
            "SELECT (SELECT count() FROM slow.outcomes) AS rows, (SELECT sum(outcomes) FROM slow.outcomes_per_minute) "
            "AS counted, (SELECT uniqExact(event_id) FROM slow.outcomes) AS different"
        )
        wanted = batches * ROWS
        assert (found["rows"], found["counted"], found["different"]) == (wanted, wanted, wanted)
        hurried.close()
        clickhouse.close()
