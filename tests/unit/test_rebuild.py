"""Recording a log again: up to where it ended, by the recorder's batches, and with nothing set aside a second time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sluice.adapters.memory.outcomes import MemoryBatches, MemoryOutcomes
from sluice.adapters.system.clock import SystemClock
from sluice.domain.outcome import Outcome, encode_outcome
from sluice.record.rebuild import Rebuilt, rebuild

AT = datetime(2026, 5, 1, tzinfo=UTC)


def outcome(number: int) -> bytes:
    return encode_outcome(
        Outcome(event_id=f"e{number}", event_type="composed", event_time=AT, message_id=f"m{number}", tenant_id="acme")
    )


def filled(source: MemoryBatches, count: int) -> dict[int, int]:
    for number in range(count):
        source.append(number % 2, outcome(number))
    return {partition: len(records) for partition, records in source.log.items()}


async def test_everything_up_to_the_end_is_recorded_and_told() -> None:
    source, store, told = MemoryBatches(rows=20), MemoryOutcomes(), list[Rebuilt]()
    source.append(0, b"not an outcome")
    ends = filled(source, 101)
    done = await rebuild(
        source=source,
        store=store,
        clock=SystemClock(),
        ends=ends,
        standing=lambda: dict(source.committed),
        told=told.append,
    )
    assert (done.outcomes, done.unreadable, done.left) == (101, 1, 0)
    assert {entry.outcome.event_id for entry in store.outcomes} == {f"e{number}" for number in range(101)}
    assert told[0].left == 102
    assert told[-1] == done


async def test_an_empty_log_is_done_at_once() -> None:
    done = await rebuild(
        source=MemoryBatches(), store=MemoryOutcomes(), clock=SystemClock(), ends={0: 0}, standing=dict
    )
    assert done.left == done.outcomes == 0


async def test_a_store_that_is_away_is_waited_for() -> None:
    source, store = MemoryBatches(rows=20), MemoryOutcomes()
    ends = filled(source, 50)
    store.away = 2
    async with asyncio.timeout(60):
        done = await rebuild(
            source=source, store=store, clock=SystemClock(), ends=ends, standing=lambda: dict(source.committed)
        )
    assert done.outcomes == len(store.outcomes) == 50
