"""A store of outcomes that is timed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from sluice.domain.outcome import OutcomeType
from sluice.domain.spread import Spread
from sluice.ports.metrics import RECORD_DELAY, RECORD_FAILED, RECORD_ROWS, RECORD_STORE, RECORDED, Figure
from sluice.ports.outcomes import Address, OutcomeStore, Recorded, StoreAway


class TimedStore:
    """An :class:`OutcomeStore` before another, that tells how that one does."""

    def __init__(self, store: OutcomeStore) -> None:
        self._store = store
        self._took = Spread(RECORD_STORE.bounds)
        self._rows = Spread(RECORD_ROWS.bounds)
        self._delay = Spread(RECORD_DELAY.bounds)
        self._stored = dict.fromkeys(get_args(OutcomeType), 0)
        self._failed = 0

    async def store(self, token: str, outcomes: Sequence[Recorded], addresses: Sequence[Address]) -> None:
        """See :class:`OutcomeStore`."""
        began = time.perf_counter()
        try:
            await self._store.store(token, outcomes, addresses)
        except StoreAway:
            self._failed += 1
            raise
        self._took.add(time.perf_counter() - began)
        self._rows.add(len(outcomes))
        for kind, count in Counter(entry.outcome.event_type for entry in outcomes).items():
            self._stored[kind] += count
        if outcomes:
            oldest = min(entry.outcome.event_time for entry in outcomes)
            self._delay.add(max(0.0, time.time() - oldest.timestamp()))

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        for kind, count in self._stored.items():
            yield Figure(RECORDED, count, (kind,))
        yield Figure(RECORD_FAILED, self._failed)
        yield Figure(RECORD_ROWS, self._rows)
        yield Figure(RECORD_STORE, self._took)
        yield Figure(RECORD_DELAY, self._delay)
