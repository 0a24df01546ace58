"""When a service that looks alive is not: its work stands, its reading stands, or its event loop does."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""Topic and partition."""
NAMED = 5
"""Partitions that a reason names at most."""


class Stalled(SluiceError):
    """The service did not move for longer than it may; its process ends, and whoever keeps it starts another."""


def stalled(unfinished: int, moved_at: float, limit: float) -> str:
    """Why the service is taken for stalled, or an empty string.

    Faust workers can stop moving without failing (faust-streaming/faust#175, #523): work is unfinished and nothing was
    finished since ``moved_at`` (monotonic seconds) for longer than ``limit``.
    """
    still = time.monotonic() - moved_at
    if unfinished and still > limit:
        return f"{unfinished} records unfinished and none finished for {still:.0f} s"
    return ""


def uncommitted(owed_at: float | None, moved_at: float, limit: float) -> str:
    """Why a service whose records finish is taken for stalled all the same: no commit was stored for ``limit`` seconds.

    While nothing finishes either, this says nothing: then it is likely the log that is away.
    """
    now = time.monotonic()
    if owed_at is not None and now - owed_at > limit > now - moved_at:
        return f"records finish, and no commit was stored for {now - owed_at:.0f} s"
    return ""


def overdue(oldest: float, limit: float, what: str) -> str:
    """Why one piece of work is taken for wedged while others go on: it is ``oldest`` seconds old, and may be ``limit``.

    Others that finish meanwhile do not help: nothing behind it is ever committed.
    """
    return (
        f"{what} has been under way for {oldest:.0f} s, which nothing it waits for may take" if oldest > limit else ""
    )


class ReadingWatch:
    """Notices partitions that hold records which nobody takes.

    ``reading`` tells, by partition that is ours and not held back, the offset to read next (-1 when nothing was read
    yet). ``waiting`` says which of these the log has a record for; it blocks, and raises :class:`SluiceError` when the
    log cannot be asked: then nobody is to blame here, and counting starts again. ``limit`` in seconds.
    """

    def __init__(
        self,
        reading: Callable[[], Mapping[Place, int]],
        waiting: Callable[[Mapping[Place, int]], set[Place]],
        limit: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reading = reading
        self._waiting = waiting
        # Looks are an eighth apart, and the second that finds the same offset asks: told within the limit all the same.
        self._limit = limit * 0.6
        self._every = limit / 8
        self._now = now
        self._seen: dict[Place, int] = {}
        self._behind: dict[tuple[Place, int], float] = {}
        self.reason = ""
        """Why reading is taken for stalled, or empty."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Look once. Only of partitions that have not moved since the last look is the log asked."""
        seen, self._seen = self._seen, dict(self._reading())
        asked = {place: following for place, following in self._seen.items() if seen.get(place) == following}
        try:
            waiting = await asyncio.to_thread(self._waiting, asked) if asked else set()
        except SluiceError as error:
            log.info("reading.not_known", reason=str(error))
            waiting = set()
        reading, now = self._reading(), self._now()
        behind = {(place, asked[place]) for place in waiting if reading.get(place) == asked[place]}
        self._behind = {one: self._behind.get(one, now) for one in behind}
        standing = {place: now - since for (place, _), since in self._behind.items() if now - since > self._limit}
        self.reason = ""
        if standing:
            named = ", ".join(f"{topic}:{number}" for topic, number in sorted(standing)[:NAMED])
            longest = max(standing.values())
            self.reason = f"records wait in {len(standing)} partitions ({named}), none taken for {longest:.0f} s"


class LoopWatch:
    """Notices from a thread that the event loop stands still, says where, and ends the process.

    A loop that stands still can hand nothing back, while a consumer's own thread goes on telling the group that all is
    well: nobody would ever take over. ``limit`` in seconds. Made in the loop that it watches, in the main thread.
    """

    def __init__(self, limit: float, end: Callable[[int], None] = os._exit) -> None:
        self._limit = limit
        self._end = end
        self._beats = 0
        self._must_end_by = float("inf")
        self._main = threading.get_ident()
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._tick()
        self._thread.start()

    def end_within(self, seconds: float) -> None:
        """The process is about to end: should it not have by then, end it."""
        self._must_end_by = time.monotonic() + seconds

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._beats += 1
        self._timer = self._loop.call_later(min(1.0, self._limit / 4), self._tick)

    def _watch(self) -> None:
        # Counted in looks, not by the clock: a process that was suspended has not stood still by itself.
        beats, looks, tick = self._beats, 0, min(1.0, self._limit / 4)
        while not self._stop.wait(tick):
            looks = looks + 1 if self._beats == beats else 0
            beats = self._beats
            if looks * tick > self._limit:
                log.critical("loop.stalled", seconds=round(looks * tick), at=self._where())
                self._end(1)
            elif time.monotonic() > self._must_end_by:
                log.critical("service.not_ended", at=self._where())
                self._end(1)

    def _where(self) -> list[str]:
        """Where the main thread is: names of files and functions, no values."""
        frame = sys._current_frames().get(self._main)  # noqa: SLF001  the only way to see another thread
        found = traceback.extract_stack(frame)[-8:] if frame is not None else []
        return [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in found]
