"""Mails whose lane is another one by the rules in force, or by what DNS says now: handed to its owner, never sent."""

from __future__ import annotations

import msgspec
import structlog

from sluice.deliver.books import Books
from sluice.deliver.growth import Growth
from sluice.deliver.item import Item
from sluice.deliver.paths import Path
from sluice.domain.mail import with_envelope, with_progress
from sluice.domain.rules import Rules
from sluice.domain.site import lane_for
from sluice.ports.bus import Record
from sluice.ports.clock import Clock
from sluice.ports.records import wheel_record

log = structlog.get_logger(__name__)
SETTLE_S = 90.0
"""Seconds after which every worker has read rules that changed: a ConfigMap reaches each node within about a minute."""
SOONEST_S, LATEST_S = 10.0, 80.0
"""Seconds that a mail rests which is sent to and fro between workers that have different rules: twice as long each
time."""


class Moves:
    """Decides by the rules in force, which :meth:`follow` changes."""

    def __init__(self, books: Books, rules: Rules, clock: Clock, growth: Growth) -> None:
        self.rules = rules
        self._books = books
        self._clock = clock
        self._growth = growth
        self._settled_at: dict[str, float] = {}

    def follow(self, rules: Rules) -> None:
        """Other rules are in force.

        Where a site has another number of lanes, the owners of the old ones may not know yet: no lane of it is served
        before they do.
        """
        was, self.rules = self.rules, rules
        now = self._clock.now()
        self._settled_at = {site: at for site, at in self._settled_at.items() if at > now}
        for name in {site.name for each in (was, rules) for site in each.sites.all}:
            if was.sites.named(name).lanes != rules.sites.named(name).lanes:
                self._settled_at[name] = now + SETTLE_S

    def settled_at(self, site: str) -> float:
        """From when lanes of the site may be served; 0.0 for at once, and the time is in the past once it is over."""
        # The default's name is empty: sites that the rules do not name have its number of lanes.
        named = any(each.name == site for each in self.rules.sites.all)
        return max(self._settled_at.get(name, 0.0) for name in ((site,) if named else (site, "")))

    def moved(self, item: Item, path: Path) -> bool:
        """Whether the mail belongs to another lane by now, and went there.

        The domain's hosts changed, compose could not look them up, or other rules are in force: a mail in the wrong
        lane would be sent beside the site's limits.
        """
        envelope, progress = item.mail.envelope, item.mail.progress
        site = self.rules.sites.site_for(envelope.domain, [host for _, host in path.hosts] or None)
        lane = lane_for(site, envelope.message_id)
        if lane == envelope.lane:
            return False
        # A time that it booked was the lane's, or is one of a limit that goes with it.
        slot = progress.slot if progress.slot_of == "shared" else None
        # A round of its own: in the same partition it would be taken for a repeat of this record.
        progress = msgspec.structs.replace(progress, round=progress.round + 1, moves=progress.moves + 1, slot=slot)
        headers = with_envelope(item.record.headers, msgspec.structs.replace(envelope, site=site.name, lane=lane))
        headers = with_progress(headers, progress)
        record, home = item.record, self._growth.home(lane)
        if progress.moves == 1:
            log.info("mail.moved", lane=envelope.lane, to=lane)
            self._books.hand_over(item.done, Record(record.topic, record.value, record.key, headers, home))
        else:
            rest = min(LATEST_S, SOONEST_S * 2 ** (progress.moves - 2))
            log.warning("mail.moved_again", lane=envelope.lane, to=lane, times=progress.moves, rests_seconds=rest)
            now = self._clock.now()
            entry = wheel_record(record, headers, now + rest, now, f"{record.topic}:{home}")
            self._books.hand_over(item.done, entry)
        return True
