"""What deliver writes down: outcomes, mails put off, forwarded and dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, cast

from sluice.deliver.item import Item
from sluice.domain.conclusion import Recorder
from sluice.domain.mail import Progress, SlotOf, WaitReason
from sluice.domain.outcome import Outcome
from sluice.domain.reference import Suppression
from sluice.ports.bus import Bus, Position, Record
from sluice.ports.intake import Done, Taken
from sluice.ports.records import dead_record, outcome_record, put_off_record, suppression_record
from sluice.ports.unsettled import Unsettled

LOOK_AGAIN_S = 0.05


class Books:
    """Writes, and calls a record done once what follows from it is durable.

    Work runs in tasks, so that a connection goes on while the log acknowledges. What cannot be written is fatal: the
    process must stop, its records unacknowledged.
    """

    def __init__(self, bus: Bus, recorder: Recorder, fatal: Callable[[BaseException], None]) -> None:
        self.bus = bus
        self.recorder = recorder
        self._unsettled = Unsettled(fatal)
        self.ours: Callable[[], bool] = lambda: True
        """Whether nobody else can have our partitions now: a worker that stood still may not know of it yet."""

    def record(self, outcome: Outcome, partition: int) -> asyncio.Future[Position]:
        """Publish an outcome to the partition of the ledger that keeps it."""
        return self.bus.publish(outcome_record(outcome, partition))

    def conclude(self, item: Item, outcome: Outcome, *more: Record) -> None:
        """The last word on a record: its outcome, then whatever else must be durable, then done."""
        stored = self.record(outcome, item.record.partition)
        if more:
            self.run(self._publish_after(stored, more, item))
        else:
            self._unsettled.when_stored([stored], item.done)

    async def _publish_after(self, first: asyncio.Future[Position], records: tuple[Record, ...], item: Item) -> None:
        await first
        # Whoever has the mail by then may have sent it without reading this outcome: it must not come back as well.
        if not await self.until_ours(item):
            return
        for record in records:
            await self.bus.publish(record)
        item.done()

    def keep(self, item: Item, kept: Record, outcome: Outcome) -> None:
        """The last word on a record that is set aside whole: kept first, then its outcome, then done.

        A crash in between sets it aside once more; the other way round it would be ended, and lost.
        """
        self.run(self._keep(item, kept, outcome))

    async def _keep(self, item: Item, kept: Record, outcome: Outcome) -> None:
        await self.bus.publish(kept)
        await self.record(outcome, item.record.partition)
        item.done()

    async def until_ours(self, item: Item) -> bool:
        """Wait until the mail is certainly ours; False when it was handed back meanwhile: its partition has moved.

        What was stored before is then read by whoever gets the partition later.
        """
        while not self.ours():
            if item.handed_back:
                return False
            await asyncio.sleep(LOOK_AGAIN_S)
        return True

    def put_off(
        self, item: Item, until: float, reason: str, outcome: Outcome | None, now: float, *, slot_of: SlotOf = "site"
    ) -> None:
        """Into the wheel until ``until``. The outcome goes first: a crash between the two is mended from it."""
        progress = Progress(
            attempt=item.attempts,
            round=item.mail.progress.round + 1,
            waits=item.waits_at(now),
            slot=until if reason == "rate" else None,
            slot_of=slot_of if reason == "rate" else "site",
            since=now,
            reason=cast("WaitReason", reason),
        )
        entry = put_off_record(item.record, progress, until, now)
        if outcome is None:
            self.hand_over(item.done, entry)
        elif self.ours():
            self.conclude(item, outcome, entry)
        else:
            self.run(self._conclude_when_ours(item, outcome, entry))

    async def _conclude_when_ours(self, item: Item, outcome: Outcome, entry: Record) -> None:
        # In the ledger, a deferral from one who stood still would cover up an attempt that the owner since has begun.
        if await self.until_ours(item) and not item.handed_back:
            self.conclude(item, outcome, entry)

    def hand_over(self, done: Done, *records: Record) -> None:
        """Publish records that replace one, then call it done."""
        self._unsettled.when_stored([self.bus.publish(record) for record in records], done)

    def bury(self, record: Taken, reason: str, done: Done, outcome: Outcome) -> None:
        """A record that cannot be handled: to the dead letters, with an outcome that says so."""
        self._unsettled.when_stored(
            [self.bus.publish(dead_record(record, reason)), self.record(outcome, record.partition)], done
        )

    def suppress(self, item: Item, reason: str, now: float) -> None:
        """Never mail the recipient again for this tenant."""
        envelope = item.mail.envelope
        suppression = Suppression(
            tenant_id=envelope.tenant_id,
            email=envelope.rcpt_to,
            reason=reason,
            created_at=datetime.fromtimestamp(now, UTC),
        )
        self.hand_over(_nothing, suppression_record(suppression))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work whose failure is fatal."""
        self._unsettled.run(work)

    async def settled(self) -> None:
        """Wait until nothing is being written."""
        await self._unsettled.settled()


def _nothing() -> None:
    return
