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
        self._already = deque(merged(finished))
        self._prefix: Range | None = None
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
        while self._already and self._already[0][1] < offset:
            self._already.popleft()
        if self._already and self._already[0][0] <= offset:
            self._advance()
            return False
        self._unfinished.add(offset)
        return True

    def finish(self, offset: int) -> None:
        """Note that everything which follows from the record at ``offset`` is durable. Repeats are harmless."""
        self._unfinished.discard(offset)
        self._advance()

    def committed(self, offset: int) -> None:
        """Note that the log has stored ``offset`` as the one to go on from."""
        if self._prefix is not None:
            first, last = self._prefix
            self._prefix = None if last < offset else (max(first, offset), last)

    def finished_beyond(self) -> list[Range]:
        """What is finished and would be read again from the stored commit, as ranges of offsets.

        The finished prefix belongs to it until its commit is stored, and so does what an earlier owner finished and
        nobody has read again yet: whoever comes next knows only what is told here.
        """
        ranges = list(_runs(self._taken, self._unfinished))
        if self._prefix is not None:
            ranges.insert(0, self._prefix)
        ranges += [(max(first, self._last + 1), last) for first, last in self._already if last > self._last]
        return merged(ranges)

    def _advance(self) -> None:
        taken, unfinished = self._taken, self._unfinished
        while taken and taken[0] not in unfinished:
            offset = taken.popleft()
            self._prefix = (offset if self._prefix is None else self._prefix[0], offset)
            self._committable = offset + 1


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same offsets in as few ranges as can be, in order."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _runs(taken: Iterable[int], unfinished: set[int]) -> Iterator[Range]:
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
