"""The ordered acker: which records of one partition are taken, which are finished, and how far it may be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last offset, both included."""


class Window:
    """Records taken from one partition, in offset order.

    Only the contiguous finished prefix may be committed: committing past an unfinished record loses it in a crash.
    A finished record beyond the prefix costs its offset, nothing of its body is kept here.
    """

    def __init__(self, finished: Iterable[Range] = ()) -> None:
        """``finished`` are ranges that an earlier owner finished beyond its commit; they count as done when taken."""
        self._taken: deque[int] = deque()
        self._unfinished: set[int] = set()
        self._already = sorted(finished)
        self._committable: int | None = None
        self._last = -1

    @property
    def unfinished(self) -> int:
        """How many taken records are not finished."""
        return len(self._unfinished)

    @property
    def committable(self) -> int | None:
        """The offset to commit (that of the next record to read), None while no prefix is finished."""
        return self._committable

    def take(self, offset: int) -> bool:
        """Note that the record at ``offset`` was read; False when it needs no work (finished before, or read twice)."""
        if offset <= self._last:
            return False
        self._last = offset
        self._taken.append(offset)
        if any(first <= offset <= last for first, last in self._already):
            self._advance()
            return False
        self._unfinished.add(offset)
        return True

    def finish(self, offset: int) -> None:
        """Note that everything which follows from the record at ``offset`` is durable. Repeats are harmless."""
        self._unfinished.discard(offset)
        self._advance()

    def finished_beyond(self) -> list[Range]:
        """Finished records after the first unfinished one, as ranges over the records taken."""
        return list(_ranges(self._taken, self._unfinished))

    def _advance(self) -> None:
        taken, unfinished = self._taken, self._unfinished
        while taken and taken[0] not in unfinished:
            self._committable = taken.popleft() + 1


def _ranges(taken: Iterable[int], unfinished: set[int]) -> Iterator[Range]:
    """Maximal runs of finished records; a run spans offsets that hold no record (compaction, transaction markers)."""
    first: int | None = None
    last = -1
    for offset in taken:
        if offset in unfinished:
            if first is not None:
                yield first, last
            first = None
        else:
            first = offset if first is None else first
            last = offset
    if first is not None:
        yield first, last
