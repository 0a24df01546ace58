"""Ledgers are read back: what takes too long is told, what nobody waits for any more changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.support.deliver import Worker

from sluice.adapters.memory.clock import MemoryClock
from sluice.deliver.reading_back import ReadingBack
from sluice.domain.ledger import Checkpoint, Entry, Finished
from sluice.domain.outcome import Source

TOPIC = "mail.ready.normal"
LIMIT = 120.0


def delivered(offset: int) -> Entry:
    return Entry("delivered", f"m{offset}", Source(TOPIC, 0, offset, 0), 1)


class Slow:
    """A log that tells what it is given, when it is given something."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Queue[Entry | Exception | None]] = []

    async def read_back(
        self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]
    ) -> int:
        self.calls.append(coming := asyncio.Queue())
        while (found := await coming.get()) is not None:
            if isinstance(found, Exception):
                raise found
            entry(found)
        return 1

    async def tell(self, call: int, found: Entry | Exception | None) -> None:
        self.calls[call].put_nowait(found)
        await asyncio.sleep(0.01)


async def begun(back: ReadingBack, partition: int = 0) -> asyncio.Task[object]:
    task: asyncio.Task[object] = asyncio.create_task(back.read(partition))
    await asyncio.sleep(0)
    return task


async def test_a_reading_that_gets_nothing_is_told_and_one_that_moves_is_not() -> None:
    """A service that hangs there looks well otherwise: nothing was taken, so nothing is unfinished."""
    clock, log = MemoryClock(), Slow()
    back = ReadingBack(log, clock)
    reading = await begun(back, 3)
    await clock.advance(LIMIT - 1)
    assert back.stalled(LIMIT) == ""
    await log.tell(0, delivered(1))
    await clock.advance(LIMIT - 1)
    assert back.stalled(LIMIT) == ""
    await clock.advance(2)
    assert "partition 3" in back.stalled(LIMIT)
    await log.tell(0, None)
    await reading
    assert back.stalled(LIMIT) == ""


async def test_a_partition_that_moved_away_is_read_no_further_and_blames_nobody() -> None:
    clock, log = MemoryClock(), Slow()
    back = ReadingBack(log, clock)
    first, second = await begun(back, 0), await begun(back, 1)
    back.give_up({0, 1})
    await clock.advance(2 * LIMIT)
    assert back.stalled(LIMIT) == ""
    await log.tell(0, delivered(1))
    assert first.done()
    assert await first is None
    await log.tell(1, OSError("the broker is gone"))
    assert await second is None


async def test_what_makes_reading_impossible_is_raised() -> None:
    log = Slow()
    reading = await begun(ReadingBack(log, MemoryClock()))
    await log.tell(0, OSError("no access"))
    with pytest.raises(OSError, match="no access"):
        await reading


async def test_a_late_reading_does_not_take_the_place_of_the_one_that_followed_it() -> None:
    """The partition left while it was read and came back: mails in hand would be forgotten, and never handed back."""
    worker = Worker()
    log = Slow()
    worker.handler.reading_back = ReadingBack(log, worker.clock)
    early = asyncio.create_task(worker.handler.assigned(0))
    await asyncio.sleep(0)
    await worker.handler.revoked({0})
    late = asyncio.create_task(worker.handler.assigned(0))
    await asyncio.sleep(0)
    await log.tell(1, delivered(7))
    await log.tell(1, None)
    assert await late == {TOPIC: [(7, 7)]}
    await log.tell(0, None)
    assert await early == {}
    assert worker.handler._ledgers[0].take("m7", 0, (TOPIC, 7)) == Finished("outcome")
    await worker.close()
