"""Faust's consumer, with an eye for urgency, and without the two tasks that it makes for every record."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP


class DirectConsumer(Consumer):
    """Fetches urgent topics first, and hands records over by awaiting, as long as nothing is suspended.

    aiokafka fills each poll from the partition that has waited longest, so a bulk backlog keeps urgent records waiting
    behind thousands. Here every poll asks the topics one after the other, the most urgent first, for a share each.

    Faust races the hand-over of each record against the start of a rebalance, with ``wait_first``: two tasks and a
    wait, about a seventh of a worker's CPU. The race only matters to a hand-over that blocks. Ours do so only when a
    rebalance has begun, and what they then hand over late is dropped by its generation (see :class:`FaustIntake`).
    """

    urgency: tuple[str, ...] = ()
    """Topics, the most urgent first."""

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  Faust's own
        """Records by partition: at most one poll's number of each topic, urgent topics first."""
        if not active_partitions:
            return await super()._getmany(active_partitions, timeout)
        found: dict[TP, Any] = {}
        for topic in self.urgency:
            wanted = {tp for tp in active_partitions if tp.topic == topic}
            if wanted:
                found.update(await super()._getmany(wanted, 0))
        return found or await super()._getmany(active_partitions, timeout)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109  mode's signature
        """As :meth:`mode.Service.wait_first`; directly for the pair that the drainer passes for each record."""
        if len(coros) == 2 and timeout is None and self.flow_active and not self.suspend_flow.is_set():
            hand_over, suspended = coros
            if isinstance(suspended, Coroutine):
                suspended.close()
                return await hand_over
        return await super().wait_first(*coros, timeout=timeout)


def use_direct_consumer(app: faust.App, urgency: tuple[str, ...]) -> None:
    """Have ``app`` make its consumer of this class; call it before the application starts."""
    transport: Any = app.transport
    transport.Consumer = type("UrgencyConsumer", (DirectConsumer,), {"urgency": urgency})
