"""Which records wait for others to go with, and until when."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from sluice.domain.cadence import Arrivals, Cadence
from sluice.ports.bus import Record

T = TypeVar("T")


class Gathering(Generic[T]):
    """Keeps records, each with a ``T``, until they are due. Times are in seconds of one clock.

    A record goes at once where none went for ``gather`` seconds. Those that follow go together after as long, or, if
    any of them is awaited, once nothing awaited came for ``quiet``. An urgent one goes at once, with all of its topic
    that was kept, since order within a partition must stay that of the calls; where many are urgent, as often as
    ``cadence`` says. Where all are patient, they go after ``patience`` instead of ``gather``.
    """

    def __init__(self, *, gather: float, patience: float, quiet: float, cadence: Cadence, now: float) -> None:
        self._gather = gather
        self._patience = patience
        self._quiet = quiet
        self._arrivals = Arrivals(cadence, now)
        self._kept: dict[str, list[tuple[Record, T]]] = {}
        self._usual: set[str] = set()
        """Topics of which records are kept that are not urgent; below, of which some are."""
        self._urgent: set[str] = set()
        self._urgent_at = -math.inf
        self._went_at = -math.inf
        self._awaited_at: float | None = None
        self._all_patient = True

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, record: Record, tag: T, now: float) -> None:
        """Keep a record until :meth:`due`."""
        self._kept.setdefault(record.topic, []).append((record, tag))
        if record.urgent:
            self._arrivals.came(1, now)
            self._urgent.add(record.topic)
            return
        self._usual.add(record.topic)
        if record.patient:
            return
        self._all_patient = False
        if record.awaited:
            self._awaited_at = now

    def due(self, now: float) -> float | None:
        """When the next of them are to go; None when there are none."""
        usual = self._usual_due() if self._usual else None
        if not self._urgent:
            return usual
        urgent = self._urgent_due(now)
        return urgent if usual is None else min(usual, urgent)

    def take(self, now: float) -> list[tuple[Record, T]]:
        """Those that are due, in order; nobody keeps them any more."""
        if self._usual and now >= self._usual_due():
            return self.take_all(now)
        if self._urgent and now >= self._urgent_due(now):
            self._urgent_at = now
            topics, self._urgent = self._urgent, set()
            self._usual -= topics
            return [pair for topic in topics for pair in self._kept.pop(topic)]
        return []

    def _usual_due(self) -> float:
        if self._all_patient:
            return self._went_at + self._patience
        gathered = self._went_at + self._gather
        return gathered if self._awaited_at is None else min(gathered, self._awaited_at + self._quiet)

    def _urgent_due(self, now: float) -> float:
        return self._urgent_at + self._arrivals.gap(now)

    def take_all(self, now: float) -> list[tuple[Record, T]]:
        """All of them."""
        kept, self._kept = self._kept, {}
        if self._urgent:
            self._urgent, self._urgent_at = set(), now
        self._usual = set()
        self._went_at, self._awaited_at, self._all_patient = now, None, True
        return [pair for pairs in kept.values() for pair in pairs]

    def put_back(self, pairs: list[tuple[Record, T]], now: float) -> None:
        """Keep those again, in front, that nobody had room for: they go with what goes next."""
        kept, self._kept = self._kept, {}
        for record, tag in pairs:
            self._kept.setdefault(record.topic, []).append((record, tag))
        for topic, others in kept.items():
            self._kept.setdefault(topic, []).extend(others)
        self._usual |= self._kept.keys()
        self._went_at, self._awaited_at, self._all_patient = now, None, False
