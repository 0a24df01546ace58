"""How an intake stands, in figures: what it took, what is in hand, how far it is behind."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from faust.types import TP

from sluice.domain.window import Window
from sluice.ports.intake import Taken
from sluice.ports.metrics import (
    COMMIT_AGE,
    LAG,
    LAG_AGE,
    PARTITIONS,
    TAKEN,
    UNFINISHED,
    UNFINISHED_BYTES,
    Figure,
)

EVERY_S = 0.5
"""Of the records stored within this time one is remembered, to tell how old the oldest unfinished one is."""
KEPT = 4096
"""So many are remembered of a partition, whether anybody asks or not."""


class Lease(Protocol):
    """A topic's partition that is ours. ``committed`` is None before the first commit."""

    tp: TP
    window: Window
    bytes: int
    committed: int | None


class Standing:
    """Told of every record that is admitted; costs one addition and a comparison each."""

    def __init__(self) -> None:
        self._taken: defaultdict[str, int] = defaultdict(int)
        self._marks: defaultdict[tuple[str, int], deque[tuple[int, float]]] = defaultdict(partial(deque, maxlen=KEPT))

    def took(self, record: Taken) -> None:
        """A record is in hand."""
        self._taken[record.topic] += 1
        marks = self._marks[record.topic, record.partition]
        if not marks or abs(record.stored_at - marks[-1][1]) > EVERY_S:
            marks.append((record.offset, record.stored_at))

    def figures(self, leases: Iterable[Lease], end: Callable[[TP], int | None], moved_at: float) -> Iterator[Figure]:
        """``end`` tells the offset behind a partition's last record, as last heard; ``moved_at`` is monotonic."""
        now = time.time()
        unfinished: dict[str, int] = {}
        size: dict[str, int] = {}
        lag: dict[str, int] = {}
        age: dict[str, float] = {}
        ours: set[tuple[str, int]] = set()
        for lease in list(leases):
            topic, window = lease.tp.topic, lease.window
            ours.add((topic, lease.tp.partition))
            unfinished[topic] = unfinished.get(topic, 0) + window.unfinished
            size[topic] = size.get(topic, 0) + lease.bytes
            lag[topic] = lag.get(topic, 0) + self._behind(lease, end(lease.tp))
            age[topic] = max(age.get(topic, 0.0), now - self._oldest(lease, now))
        for gone in self._marks.keys() - ours:
            del self._marks[gone]
        for topic, count in list(self._taken.items()):
            yield Figure(TAKEN, count, (topic,))
        for metric, values in ((UNFINISHED, unfinished), (UNFINISHED_BYTES, size), (LAG, lag), (LAG_AGE, age)):
            for topic, value in values.items():
                yield Figure(metric, value, (topic,))
        yield Figure(PARTITIONS, len(ours))
        yield Figure(COMMIT_AGE, time.monotonic() - moved_at)

    def _oldest(self, lease: Lease, now: float) -> float:
        """When the oldest unfinished record was stored, ``now`` when there is none."""
        marks, done = self._marks[lease.tp.topic, lease.tp.partition], lease.window.committable
        while len(marks) > 1 and done is not None and marks[1][0] < done:
            marks.popleft()
        if not marks or not lease.window.unfinished:
            return now
        # What came behind a finished one of these came within EVERY_S of it, unless it is the next of these.
        exact = done is not None and len(marks) > 1 and marks[1][0] == done
        return marks[1][1] if exact else marks[0][1]

    def _behind(self, lease: Lease, end: int | None) -> int:
        """Records that the log has beyond what is finished, as far as it is known."""
        done = lease.window.committable if lease.window.committable is not None else lease.committed
        marks = self._marks[lease.tp.topic, lease.tp.partition]
        if done is None and marks:
            done = marks[0][0]
        return lease.window.unfinished if end is None or done is None else max(0, end - done)
