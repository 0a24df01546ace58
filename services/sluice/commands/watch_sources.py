"""Where ``sluice watch`` knows things from: Kafka, asked anew whenever it was away."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sluice.commands import watch_frame as frames
from sluice.commands.failures import answer_or_problem
from sluice.commands.flow import Look, look
from sluice.commands.site_facts import Facts
from sluice.commands.site_states import Heard
from sluice.commands.watch_window import SECONDS, Filters, Window, decode_seen
from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.ledger import decode_checkpoint
from sluice.domain.rules import Rules
from sluice.domain.site import lane_number
from sluice.runtime import console as parts
from sluice.runtime import console_watch
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from sluice.adapters.kafka.ages import KafkaAges
    from sluice.adapters.kafka.outcome_tail import Heard as Record
    from sluice.adapters.kafka.outcome_tail import OutcomeTail
    from sluice.adapters.kafka.reference import KafkaReference
    from sluice.adapters.kafka.survey import KafkaSurvey

LOAD_S = 8.0
"""Seconds that the first frame waits for the last minute's outcomes."""
AGES_S = 1.0
FORGET_LANE_S = 30.0
"""A lane that nothing was told of for so long has nothing to tell."""
BEHIND_S = 3.0
"""Outcomes older than this, with more of them to come, say that the reading does not keep up."""


class Sources:
    """Listens for outcomes and checkpoints, and looks at topics; :meth:`frame` is what is known by then."""

    def __init__(self, settings: Settings, rules: Rules, filters: Filters) -> None:
        self._settings, self._rules, self._filters = settings, rules, filters
        self._window = Window()
        self._published = frames.Published(filters)
        self._lanes: dict[str, Heard] = {}
        self._partitions: int | None = None
        self._catalogue = Catalogue()
        self._tail: OutcomeTail | None = None
        self._controls: KafkaReference | None = None
        self._ages: KafkaAges | None = None
        self._survey: KafkaSurvey | None = None
        self._before: Look | None = None
        self._last_at = 0.0
        self._full = False

    def listen(self, seconds: float) -> list[str]:
        """Take what comes for so long; returns what went wrong, in words."""
        problems: list[str] = []
        until = time.monotonic() + seconds
        tail = self._tail = self._tail or answer_or_problem(self._begin, problems)
        while (left := until - time.monotonic()) > 0:
            if tail is None:
                time.sleep(left)
                break
            records = answer_or_problem(partial(tail.poll, min(0.2, left)), problems)
            if records is None:
                tail.close()
                self._tail = None
                break
            self._full = len(records) > 1
            for record in records:
                self._take(record)
        return problems

    def load(self) -> list[str]:
        """Take the last minute's outcomes, and the first look at topics, which rates need."""
        problems: list[str] = []
        self._before = answer_or_problem(self._look, problems)
        deadline = time.monotonic() + LOAD_S
        problems += self.listen(0.05)
        while self._tail is not None and not self._tail.caught_up and time.monotonic() < deadline:
            problems += self.listen(0.2)
        return problems

    def _begin(self) -> OutcomeTail:
        # What was missed while Kafka was away is not missed, for as long as the window reaches back.
        since = max(time.time() - SECONDS, self._last_at)
        return console_watch.outcome_tail(self._settings, since)

    def _take(self, record: Record) -> None:
        self._last_at = max(self._last_at, record.at)
        if record.checkpoint:
            try:
                told = decode_checkpoint(record.value).lanes
            except Undecodable:
                return
            self._lanes |= {name: (state, record.at) for name, state in told.items()}
            return
        seen = decode_seen(record.value)
        if seen is not None and self._filters.take(seen):
            self._window.take(seen, record.at)

    def _look(self) -> Look:
        survey, self._survey = self._survey, None
        there = parts.reach(self._settings)
        survey = survey or parts.survey(self._settings)
        now = look(survey, time.monotonic())
        # Kept only if it answered: one that asked a broker which then went away may wait for it for good.
        self._survey = survey
        self._partitions = there.get("mail.outcome")
        self._published.take(now)
        return now

    def frame(self, heard_problems: list[str]) -> frames.Frame:
        """Everything at this moment."""
        problems = list(heard_problems)
        now = answer_or_problem(self._look, problems)
        at = time.time()
        self._window.forget(at)
        self._lanes = {name: told for name, told in self._lanes.items() if at - told[1] < FORGET_LANE_S}
        stored = self._oldest(now)
        behind = at - self._last_at if self._full and at - self._last_at > BEHIND_S else None
        made = frames.Frame(
            at=datetime.fromtimestamp(at, UTC),
            filters=self._filters,
            rates=frames.rates(self._window, self._published.rate(time.monotonic()), at),
            topics=frames.topics(now, self._before, stored, at, self._filters) if now else None,
            lanes=self._lane_rows(datetime.fromtimestamp(at, UTC)) if now else None,
            slowest=self._window.slowest(),
            failures=self._window.failures(),
            workers=frames.workers(now, self._window, at),
            behind_s=behind,
            problems=[*dict.fromkeys(problems), *frames.nobody(now.members if now else None)],
        )
        self._before = now or self._before
        return made

    def _oldest(self, now: Look | None) -> dict[tuple[str, int], float]:
        """When the oldest records were stored; nothing when that cannot be told in time."""
        if now is None:
            return {}
        self._ages = self._ages or console_watch.ages(self._settings)
        ages = self._ages
        return answer_or_problem(lambda: ages.stored_at(now.behind, AGES_S), []) or {}

    def _lane_rows(self, now: datetime) -> list[frames.LaneRow]:
        if self._controls is None or self._controls.failure is not None:
            self._controls = answer_or_problem(lambda: console_watch.suspensions(self._settings, self._catalogue), [])
            if self._controls is not None:
                answer_or_problem(lambda: self._controls and self._controls.wait_loaded(3.0), [])
        facts = Facts(controls=dict(self._catalogue.controls), heard=self._lanes, partitions=self._partitions)
        names = {lane_number(lane)[0] for lane in self._lanes} | set(facts.controls)
        sites = self._rules.sites
        views = [facts.view(sites.named(name), sites.penalty, now, quiet=False) for name in sorted(names)]
        return frames.lanes([view for view in views if view.lanes or view.control], self._filters)

    def close(self) -> None:
        """Let go of the connections."""
        for one in (self._tail, self._ages):
            if one is not None:
                one.close()
        if self._controls is not None:
            self._controls.stop()
