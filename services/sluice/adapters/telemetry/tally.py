"""Outcomes counted where they are made: which, why, for whom of the named sites, and how long mails took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sluice.domain.conclusion import Recorder
from sluice.domain.events import PRIORITIES
from sluice.domain.outcome import Outcome
from sluice.domain.spread import Spread
from sluice.ports.metrics import DELIVERY, DELIVERY_WAITS, OTHER, OUTCOMES, PUT_OFF, Figure

_WAITS = ("queue", "schedule", "rate", "connection", "retry")
_FOR_CONNECTION = "waits for a connection"
_FOR_SITE = "waits for the site's rate"


class OutcomeTally:
    """Counts in plain numbers: a microsecond for each outcome. ``sites`` are the names that are told apart."""

    def __init__(self, sites: Iterable[str]) -> None:
        self._sites = frozenset(sites)
        self._counts: defaultdict[tuple[str, str | None, str | None, str | None], int] = defaultdict(int)
        self._put_off: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._took = {priority: Spread(DELIVERY.bounds) for priority in PRIORITIES}
        self._spent = {priority: dict.fromkeys((*_WAITS, "attempt"), 0.0) for priority in PRIORITIES}

    def follow(self, sites: Iterable[str]) -> None:
        """Tell other sites apart from now on; what was counted stays under the names it was counted under."""
        self._sites = frozenset(sites)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        kind, site = outcome.event_type, outcome.site
        if site is not None and site not in self._sites:
            site = OTHER
        self._counts[kind, outcome.category, outcome.priority, site] += 1
        if kind == "delivered":
            self._delivered(outcome)
        elif kind == "deferred":
            self._put_off[outcome.priority or "", _waits_for(outcome)] += 1

    def _delivered(self, outcome: Outcome) -> None:
        if outcome.priority is None or outcome.queued_at is None:
            return
        waits = outcome.waits
        took = (outcome.event_time - outcome.queued_at).total_seconds() - waits.schedule / 1000
        self._took[outcome.priority].add(max(0.0, took))
        spent = self._spent[outcome.priority]
        spent["queue"] += waits.queue
        spent["schedule"] += waits.schedule
        spent["rate"] += waits.rate
        spent["connection"] += waits.connection
        spent["retry"] += waits.retry
        spent["attempt"] += outcome.duration_ms

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        for key, count in list(self._counts.items()):
            yield Figure(OUTCOMES, count, tuple(part or "" for part in key))
        for put_off, count in list(self._put_off.items()):
            yield Figure(PUT_OFF, count, put_off)
        for priority, spread in self._took.items():
            if sum(spread.counts):
                yield Figure(DELIVERY, spread, (priority,))
                for reason, milliseconds in self._spent[priority].items():
                    yield Figure(DELIVERY_WAITS, milliseconds / 1000, (priority, reason))


class CountingRecorder(Recorder, frozen=True):
    """A recorder whose outcomes are counted. All that it makes are published."""

    tally: OutcomeTally

    def of_mail(self, *args: Any, **given: Any) -> Outcome:
        """As :meth:`Recorder.of_mail`."""
        outcome = super().of_mail(*args, **given)
        self.tally.add(outcome)
        return outcome

    def of_event(self, *args: Any, **given: Any) -> Outcome:
        """As :meth:`Recorder.of_event`."""
        outcome = super().of_event(*args, **given)
        self.tally.add(outcome)
        return outcome

    def of_record(self, *args: Any, **given: Any) -> Outcome:
        """As :meth:`Recorder.of_record`."""
        outcome = super().of_record(*args, **given)
        self.tally.add(outcome)
        return outcome


def _waits_for(outcome: Outcome) -> str:
    if outcome.category != "throttled":
        return "retry"
    reason = outcome.reason or ""
    if reason.startswith(_FOR_CONNECTION):
        return "connection"
    return "site_rate" if reason.startswith(_FOR_SITE) else "shared_limit"
