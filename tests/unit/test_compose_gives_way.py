"""On a full machine bulk leaves composing alone while urgent mail comes, which waits for none of its pauses."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.compose import Worker

from sluice.adapters.memory.clock import MemoryClock
from sluice.compose.turns import BACKLOG
from sluice.domain.outcome import decode_outcome
from sluice.domain.topics import OUTCOME, READY

BULK = 1_000


class WorkingClock(MemoryClock):
    """Composing takes time: each look at the clock finds it a millisecond later."""

    def now(self) -> float:
        """Seconds since the epoch."""
        self._now += 0.001
        return self._now


class Composing:
    """A worker that composes, and what it made so far, by priority."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def give(self, priority: str, count: int = 1) -> None:
        """Hand events over, and let the worker go on for as long as it does not wait."""
        for number in range(count):
            record = self.worker.record(self.worker.event(f"{priority}{number}"), priority=priority)
            self.worker.handler.take(record, lambda: None)
        await self.worker.clock.advance(0.0)

    @property
    def made(self) -> Counter[str]:
        """Mails by priority."""
        return Counter(mail.envelope.priority for mail in self.worker.mails)


@asynccontextmanager
async def composing(folder: Path, *, busy: float) -> AsyncIterator[Composing]:
    """On processors of which the share ``busy`` is in use."""
    worker = Worker(folder, clock=WorkingClock())
    worker.load.share = busy
    await worker.handler.assigned(0)
    task = asyncio.create_task(worker.handler.compose_forever())
    yield Composing(worker)
    task.cancel()


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Composing]:
    """Urgent mail came, and a backlog of bulk has been worked on since for long enough to give way."""
    async with composing(tmp_path, busy=1.0) as found:
        await found.give("high")
        await found.give("bulk", BULK)
        for _ in range(10):
            await found.give("high")
            await found.worker.clock.advance(0.2)
        yield found


async def test_bulk_stops_for_a_while_and_goes_on(full: Composing) -> None:
    """One mail may have been due just then."""
    before = full.made["bulk"]
    assert 0 < before < BULK
    await full.give("high")
    assert full.made["bulk"] <= before + 1
    await full.worker.clock.advance(0.5)
    assert before < full.made["bulk"] < BULK


async def test_urgent_mail_that_comes_meanwhile_is_composed_at_once(full: Composing) -> None:
    high, bulk = full.made["high"], full.made["bulk"]
    await full.give("high", 3)
    assert full.made["high"] == high + 3
    assert full.made["bulk"] <= bulk + 1


async def test_with_room_left_bulk_and_urgent_mail_are_composed_as_they_come(tmp_path: Path) -> None:
    async with composing(tmp_path, busy=0.5) as found:
        await found.give("high")
        await found.give("bulk", BULK)
        for _ in range(20):
            await found.worker.clock.advance(0.0)
        assert found.made == {"high": 1, "bulk": BULK}


async def test_only_those_with_a_backlog_behind_them_may_wait_for_company(tmp_path: Path) -> None:
    """By their own priority: the last ones, a single one, and urgent ones however many go on as soon as ever."""
    async with composing(tmp_path, busy=0.5) as found:
        await found.give("normal", BACKLOG + 20)
        await found.give("bulk")
        await found.give("high", BACKLOG + 20)
        for _ in range(20):
            await found.worker.clock.advance(0.0)
        bus = found.worker.bus
        for priority, patient in (("normal", 20), ("bulk", 0), ("high", 0)):
            ready = bus.all(READY[priority])
            assert [record.patient for record in ready] == [True] * patient + [False] * (len(ready) - patient)
        composed = [record for record in bus.all(OUTCOME) if decode_outcome(record.value or b"").priority == "normal"]
        assert sum(record.patient for record in composed) == 20
