"""Whether the group certainly still counts this process in: known from what the broker took last.

A process that was suspended, or whose machine stood still, does not know that others have its partitions now; Kafka
tells it with the answer to its next heartbeat, and until then it would go on. So what must not be done by two is done
only while the last heartbeat that was answered is younger than the session: the broker counts from its arrival, which
was later than its sending, so until then nobody else can have been given anything.

A static member (KIP-345) is another matter: a second process with its instance id takes its place at once. The one that
was there before is told with the answer to its next heartbeat, and ends. Until it may have been told, :data:`LEASE_S`
from its last one, the second one does nothing either.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from aiokafka.protocol.group import (  # type: ignore[import-untyped]
    HeartbeatRequest,
    JoinGroupRequest,
    SyncGroupRequest,
)
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)

Send = Callable[[Any], Awaitable[Any]]
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts on while the machine sleeps; Linux only."""


def elapsed() -> float:
    """Seconds since some moment, counted on whatever stands still."""
    return time.clock_gettime(_CLOCK)


HEARTBEAT_S = 3.0
LEASE_S = 2 * HEARTBEAT_S
"""Seconds that a static member is certain of its place after a heartbeat, and that it waits for after it has joined."""
UNKNOWN_MEMBER, FENCED = 25, 82


class InstanceTaken(SluiceError):
    """Another process joined with this one's instance id and has its partitions: this one must end."""


class Membership:
    """``session_s`` is the group's session timeout; ``now`` counts on while the process is suspended.

    ``instance_id`` is that of a static member, None for a dynamic one.
    """

    def __init__(self, session_s: float, now: Callable[[], float] = elapsed, instance_id: str | None = None) -> None:
        self._session_s = session_s
        self._lease_s = min(session_s, LEASE_S) if instance_id else session_s
        self._now = now
        self._instance_id = instance_id
        self._sent_at = -math.inf
        self._alone_from = -math.inf
        self._taken = False
        self._member: str | None = None
        """The id that the broker knows us by, as far as we have heard."""

    @property
    def certain(self) -> bool:
        """Whether nobody else can own our partitions at this moment. Safe to ask from any thread."""
        now = self._now()
        return not self._taken and now >= self._alone_from and now - self._sent_at < self._lease_s

    @property
    def taken(self) -> InstanceTaken | None:
        """Set once another process has taken this one's place."""
        if not self._taken:
            return None
        return InstanceTaken(
            f"another process joined as {self._instance_id}: give each process a kafka_instance_id of its own"
        )

    def witnessing(self, send: Send) -> Send:
        """``send`` of aiokafka's coordinator, with an eye on heartbeats and joins that the broker answers well."""

        async def sent(request: Any) -> Any:
            if self._taken and isinstance(request, JoinGroupRequest):
                # It would take the place back, and so on in turns.
                raise KafkaError(str(self.taken))
            if isinstance(request, JoinGroupRequest) and not request._member_id:  # noqa: SLF001  nobody else tells
                self._member = None
            at = self._now()
            response = await send(request)
            if isinstance(request, _OURS):
                self._hear(request, response.error_code, at)
            return response

        return sent

    def _hear(self, request: Any, code: int, asked_at: float) -> None:
        if code == 0 and isinstance(request, JoinGroupRequest):
            if self._instance_id and self._member is None:
                self._alone_from = self._now() + self._lease_s
        elif code == 0:
            self._sent_at = max(self._sent_at, asked_at)
            self._member = request._member_id  # noqa: SLF001
        elif self._instance_id and (code == FENCED or (code == UNKNOWN_MEMBER and self._kept(request))):
            log.error("membership.taken", instance_id=self._instance_id)
            self._taken = True

    def _kept(self, request: Any) -> bool:
        """Whether the broker cannot have given us up for silent: then somebody has taken our place."""
        ours = isinstance(request, HeartbeatRequest) and request._member_id == self._member  # noqa: SLF001
        return ours and self._now() - self._sent_at < self._session_s


_OURS = (HeartbeatRequest, SyncGroupRequest, JoinGroupRequest)


class WitnessedThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, whose heartbeats are seen by ``membership``."""

    membership: Membership

    async def on_start(self) -> None:
        """Before there is anything to join."""
        await super().on_start()
        coordinator: Any = self._ensure_consumer()._coordinator  # noqa: SLF001  its only way to the broker
        coordinator._send_req = self.membership.witnessing(coordinator._send_req)  # noqa: SLF001
