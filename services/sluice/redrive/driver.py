"""A driver: goes through a plan's list until it is at its end, or until somebody says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from sluice.domain.errors import SluiceError
from sluice.domain.redrive import Plan, State, Word, standing
from sluice.domain.shaping import Rate
from sluice.domain.topics import SEND
from sluice.ports.bus import Bus, NotStored
from sluice.ports.clock import Clock
from sluice.ports.redrive import Contents, Mails, Plans, Progress, Reached
from sluice.redrive.step import Run, deal

BATCH = 500
"""Mails of a batch at most: what is asked of the store in one question, and what may be published twice when a driver
is killed; compose recognises these by their key."""
LISTEN_S = 0.5
"""Seconds after which a driver that waits hears what was said of its plan."""
KEPT_FOR_S = 30.0
"""Seconds for which it is not asked again what the log keeps."""


class Ended(msgspec.Struct, frozen=True):
    """Why a driver ended: the plan's ``state`` by then, and what to tell."""

    state: State
    why: str


class Driver:
    """Drives one plan. Several may: the one that was started last goes on, the others end when they hear of it."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        *,
        plans: Plans,
        mails: Mails,
        contents: Contents,
        bus: Bus,
        clock: Clock,
        told: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """``told`` is called with the progress after every batch."""
        self._plan = plan
        self._run = run
        self._plans = plans
        self._mails = mails
        self._contents = contents
        self._bus = bus
        self._clock = clock
        self._told = told
        self._rate = Rate.parse(run.options.rate) if run.options.rate else None
        self._kept: dict[tuple[str, int], int] = {}
        self._kept_until = 0.0

    async def drive(self) -> Ended:
        """Until the end of the list, a pause, a cancellation, or another driver.

        Raises :class:`SluiceError` when the log or the store is away; the plan can then be started again.
        """
        progress = await asyncio.to_thread(self._plans.progress, self._plan.plan_id)
        self._told(progress)
        due = self._clock.now()
        while progress.next < self._plan.mails:
            if (ended := await self._wait(due)) is not None:
                return ended
            began = self._clock.now()
            published = await self._batch(progress.next)
            progress = await asyncio.to_thread(self._plans.progress, self._plan.plan_id)
            self._told(progress)
            due = began + published * self._rate.interval if self._rate else began
        return Ended("done", "all of it is driven")

    async def _wait(self, due: float) -> Ended | None:
        """Wait until ``due``, listening."""
        while True:
            words = await asyncio.to_thread(self._plans.words, self._plan.plan_id)
            stands = standing(words)
            if stands.state != "running":
                return Ended(stands.state, f"it was {stands.state}{_by(words)}")
            if stands.run != self._run.name:
                return Ended("running", f"another driver has taken over{_by(words)}")
            left = due - self._clock.now()
            if left <= 0:
                return None
            await self._clock.sleep(min(left, LISTEN_S))

    async def _batch(self, first: int) -> int:
        """Drive the next mails, and remember it once the log has all of them; returns how many were published."""
        size = BATCH if self._rate is None else max(1, min(BATCH, int(1.0 / self._rate.interval)))
        items = await asyncio.to_thread(self._plans.items, self._plan.plan_id, first, size)
        if not items:
            raise SluiceError(f"plan {self._plan.plan_id} lacks the mails of its list from number {first} on")
        now = self._clock.now()
        if now >= self._kept_until:
            self._kept = dict(await asyncio.to_thread(self._contents.first_kept))
            self._kept_until = now + KEPT_FOR_S
        try:
            partitions = {topic: self._bus.partitions(topic) for topic in SEND.values()}
            dealt = await asyncio.to_thread(
                deal, items, self._run, mails=self._mails, contents=self._contents, first_kept=self._kept,
                partitions=partitions, now=datetime.fromtimestamp(now, UTC),
            )  # fmt: skip
            await asyncio.gather(*(self._bus.publish(record) for record in dealt.records))
        except NotStored as error:
            raise SluiceError(f"Kafka does not take the mails: {error}") from error
        following = items[-1].number + 1
        batch = Reached(self._run.name, first, following, len(dealt.records), dealt.skipped)
        await asyncio.to_thread(self._plans.reached, self._plan.plan_id, batch)
        return len(dealt.records)


def _by(words: list[Word]) -> str:
    return f" by {words[-1].by}" if words else ""
