"""Writes down, every few seconds, what is finished beyond the commit and what is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from sluice.domain.lanes import LaneState
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, Place, encode_checkpoint
from sluice.domain.topics import OUTCOME
from sluice.ports.bus import Bus, Record
from sluice.ports.clock import Clock
from sluice.ports.intake import Intake

INTERVAL = 2.0
_NOTHING = Checkpoint({}, [])


class Checkpoints:
    """One checkpoint per owned partition and interval, as long as it says something or has changed."""

    def __init__(
        self,
        intake: Intake,
        bus: Bus,
        clock: Clock,
        partitions: Callable[[], set[int]],
        started: Callable[[int], list[tuple[str, int]]],
        lanes: Callable[[int], dict[str, LaneState]],
        node: str = "",
    ) -> None:
        self._node = node
        self._intake = intake
        self._bus = bus
        self._clock = clock
        self._partitions = partitions
        self._started = started
        self._lanes = lanes
        self._last: dict[int, Checkpoint] = {}

    async def write_forever(self) -> None:
        """Write until cancelled. Raises :class:`sluice.ports.bus.NotStored` when the log takes nothing any more."""
        while True:
            await self._clock.sleep(INTERVAL)
            await self.write()

    async def write(self) -> None:
        """One round."""
        owned = self._partitions()
        self._last = {number: last for number, last in self._last.items() if number in owned}
        await self.write_for(owned)

    async def write_for(self, partitions: set[int], unsent: Mapping[int, list[Place]] | None = None) -> None:
        """Checkpoints of some partitions; ``unsent`` tells by partition which attempts were handed back unsent.

        When partitions are added, Kafka may give us one before our producer has heard of it: nothing can have been
        written down there, so there is nothing to tell yet.
        """
        known = self._bus.partitions(OUTCOME)
        for number in sorted(number for number in partitions if number < known):
            checkpoint = Checkpoint(self._intake.finished_beyond(number), self._started(number), self._lanes(number))
            if unsent and unsent.get(number):
                checkpoint = msgspec.structs.replace(checkpoint, unsent=unsent[number], node=self._node)
            if checkpoint == _NOTHING and self._last.get(number, _NOTHING) == _NOTHING:
                continue
            self._last[number] = checkpoint
            headers = [("ce_type", CHECKPOINT_TYPE.encode())]
            await self._bus.publish(Record(OUTCOME, encode_checkpoint(checkpoint), None, headers, number))
