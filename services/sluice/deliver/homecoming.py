"""Mails and lanes that are at home in another partition: handed over to it, never sent from here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sluice.deliver.books import Books
from sluice.deliver.growth import Growth
from sluice.deliver.item import Item
from sluice.deliver.lane import Lane
from sluice.deliver.senders import Senders
from sluice.domain.mail import with_progress
from sluice.ports.bus import Record


class Homecoming:
    """Empties ``lanes`` of those that ``growth`` moved; ``route`` takes a mail that is at home where it was read."""

    def __init__(
        self, lanes: dict[str, Lane], growth: Growth, books: Books, senders: Senders, route: Callable[[Item], None]
    ) -> None:
        self._lanes = lanes
        self._growth = growth
        self._books = books
        self._senders = senders
        self._route = route

    def follow_growth(self) -> None:
        """When partitions were added, hand over the lanes that are at home elsewhere now."""
        if self._growth.noticed():
            for name in [name for name in self._lanes if self._growth.has_moved(name)]:
                lane = self._lanes.pop(name)
                self.send_all(lane)
                self._books.run(self._let_go(lane))

    async def _let_go(self, lane: Lane) -> None:
        await self._senders.leave_when_idle({lane})
        self.send_all(lane)

    def send_all(self, lane: Lane) -> None:
        """Send the mails home that wait in the lane, and those that its agents let fall."""
        for item in lane.take_all():
            if not item.handed_back:
                self.send(item)

    def send(self, item: Item) -> None:
        """Send a mail to the partition of its lane."""
        record, home = item.record, self._growth.home(item.mail.envelope.lane)
        if home == record.partition:
            # It was read there already, and would be taken for a repeat of itself.
            self._route(item)
            return
        # A round of its own: should more partitions bring the lane back to one that it was in, and the mail with it, it
        # would be taken for a repeat there.
        progress = msgspec.structs.replace(item.mail.progress, round=item.mail.progress.round + 1)
        headers = with_progress(record.headers, progress)
        self._books.hand_over(item.done, Record(record.topic, record.value, record.key, headers, home))
