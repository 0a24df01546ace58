"""Faust's consumer, without the two tasks that it makes for every record."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Consumer


class DirectConsumer(Consumer):
    """Hands records over by awaiting, as long as nothing is suspended.

    Faust races the hand-over of each record against the start of a rebalance, with ``wait_first``: two tasks and a
    wait, about a seventh of a worker's CPU. The race only matters to a hand-over that blocks. Ours do so only when a
    rebalance has begun, and what they then hand over late is dropped by its generation (see :class:`FaustIntake`).
    """

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109  mode's signature
        """As :meth:`mode.Service.wait_first`; directly for the pair that the drainer passes for each record."""
        if len(coros) == 2 and timeout is None and self.flow_active and not self.suspend_flow.is_set():
            hand_over, suspended = coros
            if isinstance(suspended, Coroutine):
                suspended.close()
                return await hand_over
        return await super().wait_first(*coros, timeout=timeout)


def use_direct_consumer(app: faust.App) -> None:
    """Have ``app`` make its consumer of this class; call it before the application starts."""
    transport: Any = app.transport
    transport.Consumer = DirectConsumer
