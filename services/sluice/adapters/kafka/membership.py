"""Whether the group certainly still counts this process in: known from what the broker took last.

A process that was suspended, or whose machine stood still, does not know that others have its partitions now; Kafka
tells it with the answer to its next heartbeat, and until then it would go on. So what must not be done by two is done
only while the last heartbeat that was answered is younger than the session: the broker counts from its arrival, which
was later than its sending, so until then nobody else can have been given anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

Send = Callable[[Any], Awaitable[Any]]
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts on while the machine sleeps; Linux only."""


def elapsed() -> float:
    """Seconds since some moment, counted on whatever stands still."""
    return time.clock_gettime(_CLOCK)


class Membership:
    """``session_s`` is the group's session timeout; ``now`` counts on while the process is suspended."""

    def __init__(self, session_s: float, now: Callable[[], float] = elapsed) -> None:
        self._session_s = session_s
        self._now = now
        self._sent_at = -math.inf

    @property
    def certain(self) -> bool:
        """Whether nobody else can own our partitions at this moment. Safe to ask from any thread."""
        return self._now() - self._sent_at < self._session_s

    def witnessing(self, send: Send) -> Send:
        """``send`` of aiokafka's coordinator, with an eye on heartbeats and joins that the broker answers well."""

        async def sent(request: Any) -> Any:
            at = self._now()
            response = await send(request)
            if isinstance(request, HeartbeatRequest | SyncGroupRequest) and response.error_code == 0:
                self._sent_at = max(self._sent_at, at)
            return response

        return sent


class WitnessedThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, whose heartbeats are seen by ``membership``."""

    membership: Membership

    async def on_start(self) -> None:
        """Before there is anything to join."""
        await super().on_start()
        coordinator: Any = self._ensure_consumer()._coordinator  # noqa: SLF001  its only way to the broker
        coordinator._send_req = self.membership.witnessing(coordinator._send_req)  # noqa: SLF001
