"""What deliver writes down of partitions, and when there is nothing to write."""

from __future__ import annotations

from typing import Any, cast

from tests.support.deliver import TOPICS

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.deliver.checkpoints import Checkpoints
from sluice.domain.lanes import LaneState
from sluice.domain.ledger import decode_checkpoint
from sluice.domain.topics import OUTCOME


class Finished:
    """An intake of which everything is finished up to the commit."""

    def finished_beyond(self, _partition: int) -> dict[str, Any]:
        return {}


def checkpoints(bus: MemoryBus, lanes: dict[int, dict[str, LaneState]]) -> Checkpoints:
    return Checkpoints(
        cast("Any", Finished()), bus, MemoryClock(), lambda: set(), lambda _: [], lambda number: lanes.get(number, {})
    )


async def test_a_partition_says_something_or_nothing_and_its_last_word_when_that_changes() -> None:
    bus, lanes = MemoryBus(TOPICS), {1: {"site#0": LaneState(failed_connects=2)}}
    written = checkpoints(bus, lanes)
    await written.write_for({0, 1})
    (record,) = bus.all(OUTCOME)
    assert record.partition == 1
    assert decode_checkpoint(record.value or b"").lanes == lanes[1]
    lanes.clear()
    await written.write_for({0, 1})
    await written.write_for({0, 1})
    assert [decode_checkpoint(each.value or b"").lanes for each in bus.all(OUTCOME)][1:] == [{}]


async def test_a_partition_that_the_producer_has_not_heard_of_yet_is_left_out() -> None:
    """Partitions were just added, and the group was faster: the worker must not die of it."""
    bus, lanes = MemoryBus(TOPICS), {number: {"site#0": LaneState(failed_connects=2)} for number in (1, 7)}
    await checkpoints(bus, lanes).write_for({1, 7})
    assert [record.partition for record in bus.all(OUTCOME)] == [1]
    bus.grow(OUTCOME, 9)
    await checkpoints(bus, lanes).write_for({7})
    assert [record.partition for record in bus.all(OUTCOME)] == [1, 7]
