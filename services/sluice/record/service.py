"""The loop of the record service: take a batch, store it, finish it; wait as long as ClickHouse is away."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from sluice.ports.bus import Bus, NotStored
from sluice.ports.clock import Clock
from sluice.ports.outcomes import Batch, BatchSource, OutcomeStore, SourceAway, StoreAway
from sluice.ports.spans import Spans
from sluice.record.step import record

log = structlog.get_logger(__name__)

_FIRST_WAIT = 0.25
_LONGEST_WAIT = 15.0
_KEEP_EVERY = 2.0
"""Seconds: well under the time after which Kafka takes the partitions of a member that does not poll."""


class Progress(msgspec.Struct):
    """What health checks and metrics read. Times are seconds since the epoch."""

    last_progress: float
    """When something was last stored, or there was nothing to store."""
    batches: int = 0
    outcomes: int = 0
    dead: int = 0
    waiting_since: float | None = None
    """Since when the store or the log has been away; None while all is well."""


class Recorder:
    """Records outcomes until told to stop. A batch that is not stored by then is stored by whoever comes next."""

    def __init__(
        self, *, source: BatchSource, store: OutcomeStore, bus: Bus, clock: Clock, spans: Spans | None = None
    ) -> None:
        self._spans = spans
        self._source = source
        self._store = store
        self._bus = bus
        self._clock = clock
        self.progress = Progress(last_progress=clock.now())

    def lag(self) -> int:
        """Records in the log that are not stored yet, over the partitions owned."""
        return self._source.lag()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; returns within a few seconds of that, or once the insert under way has ended."""
        wait = _FIRST_WAIT
        while not stop.is_set():
            try:
                batch = await self._source.take()
            except SourceAway as error:
                self._troubled("log away", str(error), wait)
                await self._clock.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            wait = _FIRST_WAIT
            if batch is None:
                if self._source.lag() == 0:
                    self._well()
            elif await self._stored(batch, stop):
                await self._source.finish(batch)
                self._well()

    async def _stored(self, batch: Batch, stop: asyncio.Event) -> bool:
        """Store a batch, however long it takes; False when it was left to others because its partitions are lost, or
        because of ``stop``."""
        wait = _FIRST_WAIT
        while True:
            began = self._clock.now()
            try:
                done = await record(batch, store=self._store, bus=self._bus)
            except (StoreAway, NotStored) as error:
                self._troubled("cannot store outcomes", str(error), wait)
                await self._wait(wait, stop)
                wait = min(wait * 2, _LONGEST_WAIT)
                if stop.is_set():
                    return False
                if not self._source.holds(batch):
                    log.info("batch left to the new owner of its partitions", batch=batch.token)
                    return False
            else:
                if self._spans is not None:
                    traced = [entry.outcome for entry in done.outcomes if entry.outcome.span_id is not None]
                    self._spans.recorded(traced, batch.topic, len(done.outcomes), began, self._clock.now())
                self.progress.batches += 1
                self.progress.outcomes += len(done.outcomes)
                self.progress.dead += len(done.undecodable)
                for entry, why in done.undecodable:
                    log.warning("outcome set aside", partition=entry.partition, offset=entry.offset, field=why.field)
                return True

    async def _wait(self, seconds: float, stop: asyncio.Event) -> None:
        """Sleep, staying a member of the group meanwhile."""
        until = self._clock.now() + seconds
        while not stop.is_set() and (left := until - self._clock.now()) > 0:
            await self._clock.sleep(min(left, _KEEP_EVERY))
            await self._source.keep()

    def _well(self) -> None:
        now = self._clock.now()
        if self.progress.waiting_since is not None:
            log.info("recording again", after_seconds=round(now - self.progress.waiting_since, 1))
        self.progress.waiting_since = None
        self.progress.last_progress = now

    def _troubled(self, what: str, reason: str, wait: float) -> None:
        if self.progress.waiting_since is None:
            self.progress.waiting_since = self._clock.now()
        log.warning(what, reason=reason, again_in_seconds=wait)
