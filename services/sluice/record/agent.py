"""The record service: ``mail.outcome`` in, exact batches into ClickHouse out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from sluice.domain.conclusion import Recorder as Telling
from sluice.domain.topics import OUTCOME
from sluice.ports.health import Health
from sluice.ports.metrics import COMMIT_AGE, LAG, Figure
from sluice.record.mirror import MIRRORED, Mirror
from sluice.record.service import Recorder
from sluice.runtime import telemetry, wiring
from sluice.runtime.config import Settings
from sluice.runtime.tasks import Tasks

GROUP = "sluice-record"
MIRROR_GROUP = "sluice-reference"
"""A new name when the mirror keeps more than before: a new group begins at the oldest record, and mirrors all again."""


class RecordService:
    """See :class:`sluice.runtime.lifecycle.Service`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._stopping = asyncio.Event()
        self._bus = wiring.bus(settings)
        self._source = wiring.outcome_batches(settings, GROUP)
        self._store = wiring.outcome_store(settings)
        self._spans = telemetry.spans("record", settings)
        self._recorder = Recorder(
            source=self._source, store=self._store, bus=self._bus, clock=wiring.SystemClock(), spans=self._spans
        )
        self._follower = wiring.follower(settings, MIRROR_GROUP, MIRRORED)
        self._mirror = Mirror(
            follower=self._follower,
            mirror=wiring.reference_mirror(settings),
            clock=wiring.SystemClock(),
            hashed=Telling(settings.node, settings.hash_key.get_secret_value().encode()).hashed,
        )
        self._running: list[asyncio.Task[None]] = []

    @property
    def health(self) -> Health:
        """ClickHouse away is not a reason to restart: outcomes wait in Kafka, and so does this service."""
        progress = self._recorder.progress
        still = time.time() - progress.last_progress
        waiting = progress.waiting_since is not None
        stuck = still > self._settings.stall_s and not waiting and self._recorder.lag() > 0
        facts = {"lag": float(self._recorder.lag()), "recorded": float(progress.outcomes)}
        reason = "ClickHouse or Kafka is away" if waiting else ""
        if stuck:
            reason = f"nothing was recorded for {still:.0f} s"
        return Health(not stuck, not waiting, reason, facts)

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        yield from self._bus.figures()
        yield from self._store.figures()
        yield Figure(LAG, self._recorder.lag(), (OUTCOME,))
        yield Figure(COMMIT_AGE, time.time() - self._recorder.progress.last_progress)

    async def start(self) -> None:
        """Join; raises :class:`sluice.ports.bus.NotStored` when the topic is missing."""
        self._bus.partitions(OUTCOME)
        self._running = [
            self._tasks.run(self._recorder.run(self._stopping), "record"),
            self._tasks.run(self._mirror.run(self._stopping), "mirror"),
        ]

    async def failed(self) -> BaseException:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        return await self._tasks.failed()

    async def stop(self) -> None:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        self._stopping.set()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._follower.close()
        await self._source.close()
        await self._bus.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


async def open_record(settings: Settings) -> RecordService:
    """Build the service."""
    return RecordService(settings)
