"""The attempt ledger of one partition: what an earlier owner finished, deferred, or started without conclusion.

Rebuilt from the records of one partition of ``mail.outcome``: outcomes name the source record that they conclude, and
checkpoints, written every few seconds, carry what is finished beyond the commit and what is under way.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

import msgspec

from sluice.domain.errors import NOT_DECODED, Undecodable
from sluice.domain.events import Moment
from sluice.domain.lanes import LaneState
from sluice.domain.mail import Waits
from sluice.domain.outcome import OutcomeType, Source
from sluice.domain.topics import SEND
from sluice.domain.window import Range, merged

CHECKPOINT_TYPE = "sluice.checkpoint.v1"
"""``ce_type`` of a checkpoint record in ``mail.outcome``; consumers of outcomes skip it."""

Place = tuple[str, int]
"""Topic and offset of a record of ``mail.ready.*``; the partition is the ledger's own."""

CONCLUDING: frozenset[OutcomeType] = frozenset(
    ("delivered", "bounced", "expired", "suppressed", "cancelled", "dead", "held")
)


class Entry(msgspec.Struct, frozen=True):
    """The part of an outcome event that the ledger reads."""

    event_type: OutcomeType
    message_id: str
    source: Source | None = None
    attempt: int = 0
    category: str | None = None
    next_attempt_at: Moment | None = None
    waits: Waits = Waits()
    node: str | None = None
    """The worker that wrote it."""


class Checkpoint(msgspec.Struct, frozen=True):
    """What a partition's owner knows beyond its commits: finished ranges by topic, attempts under way, its lanes."""

    finished: dict[str, list[Range]]
    started: list[Place]
    lanes: dict[str, LaneState] = {}
    unsent: list[Place] = []
    """Attempts of ``node`` that were written down and handed back before their content was sent."""
    node: str = ""


class Fresh(msgspec.Struct, frozen=True):
    """Never begun as far as is known: go on."""


class Finished(msgspec.Struct, frozen=True):
    """Concluded before: nothing is left to do. ``why`` is ``outcome`` or ``repeat`` (a second copy of a record)."""

    why: Literal["outcome", "repeat"]


class PutOff(msgspec.Struct, frozen=True):
    """Its deferral was recorded, its entry into the wheel perhaps not: put it off again until the same time."""

    until: float
    attempt: int
    category: str | None


class InDoubt(msgspec.Struct, frozen=True):
    """An attempt started and has no outcome: the receiving server may have the mail. ``attempt`` is its number."""

    attempt: int


Verdict = Fresh | Finished | PutOff | InDoubt


class Ledger:
    """What is known of the records of one partition. ``memory`` bounds how many mails are recognised as repeats."""

    def __init__(self, memory: int = 50_000) -> None:
        self._memory = memory
        self._finished: set[Place] = set()
        self._ranges: dict[str, list[Range]] = {}
        self._deferred: dict[Place, PutOff] = {}
        self._started: dict[Place, dict[str, int]] = {}
        """Open attempts: by worker, the number of its last one."""
        self._seen: dict[int, tuple[int, Place]] = {}
        self._last: dict[str, int] = {}
        self.lanes: dict[str, LaneState] = {}
        """Lanes as the last checkpoint told them."""

    def replay(self, entry: Entry) -> None:
        """Learn from an outcome, in log order. Those of compose, which conclude events, say nothing here."""
        if entry.source is None or entry.event_type not in _HEARD or entry.source.topic in _EVENTS:
            return
        place = (entry.source.topic, entry.source.offset)
        self._remember(entry.message_id, entry.source.round, place)
        if place in self._finished:
            return
        node = entry.node or _UNKNOWN
        started = self._started.setdefault(place, {})
        if entry.event_type == "attempted":
            self._deferred.pop(place, None)
            started[node] = entry.attempt
        elif entry.event_type == "in_doubt":
            # Whoever tells of open attempts goes on from them: what it writes next concludes them.
            for other in [other for other, attempt in started.items() if attempt <= entry.attempt]:
                started[node] = max(started.pop(other), started.get(node, 0))
        elif entry.event_type == "deferred" and entry.next_attempt_at is not None:
            self._defer(place, entry, PutOff(entry.next_attempt_at.timestamp(), entry.attempt, entry.category))
        elif entry.event_type in CONCLUDING:
            started.clear()
            self._deferred.pop(place, None)
            self._finished.add(place)
        if not started:
            del self._started[place]

    def _defer(self, place: Place, entry: Entry, put_off: PutOff) -> None:
        """A deferral concludes its own worker's attempt, and no other's.

        One from a worker that was suspended while its records waited in its producer is stored after its successor's
        attempt began. It says nothing of that attempt, and does not lead into the wheel.
        """
        started = self._started[place]
        started.pop(entry.node or _UNKNOWN, None)
        started.pop(_UNKNOWN, None)
        known = self._deferred.get(place)
        if not started and (known is None or known.attempt <= put_off.attempt):
            self._deferred[place] = put_off

    def restore(self, checkpoint: Checkpoint) -> None:
        """Learn from a checkpoint, in log order: it replaces what earlier ones said of finished ranges.

        What was never sent is begun anew, and in nobody's doubt; another worker's attempt stays open.
        """
        self._ranges = {topic: merged(ranges) for topic, ranges in checkpoint.finished.items()}
        self.lanes = checkpoint.lanes
        for place in checkpoint.started:
            if place not in self._finished and place not in self._deferred:
                self._started.setdefault(place, {_UNKNOWN: 0})
        for place in checkpoint.unsent:
            started = self._started.get(place, {})
            started.pop(checkpoint.node, None)
            if not started:
                self._started.pop(place, None)
        for place in [place for place in self._started if self._in_ranges(place)]:
            del self._started[place]

    def finished_by_topic(self) -> dict[str, list[Range]]:
        """What is known to be finished, by topic: the last checkpoint's ranges and what was concluded after it."""
        finished = {topic: list(ranges) for topic, ranges in self._ranges.items()}
        for topic, offset in self._finished:
            finished.setdefault(topic, []).append((offset, offset))
        return finished

    def untaken(self) -> list[Place]:
        """Attempts of an earlier owner whose records were not read again yet: the next checkpoint must tell them on."""
        return [place for place in self._started if place[1] > self._last.get(place[0], -1)]

    def take(self, message_id: str, round_: int, place: Place) -> Verdict:
        """Decide what a record that was just read needs, and remember it. Each topic's are taken in offset order."""
        verdict = self.pass_on(place)
        if isinstance(verdict, InDoubt):
            self._remember(message_id, round_, place)
        if not isinstance(verdict, Fresh):
            return verdict
        seen = self._seen.get(hash(message_id))
        if seen is not None and seen[0] >= round_ and seen[1] != place:
            return Finished("repeat")
        self._remember(message_id, round_, place)
        return Fresh()

    def pass_on(self, place: Place) -> Verdict:
        """As :meth:`take`, for a record whose mail another partition has by now.

        It is not remembered: it may come back, from a worker that does not know of the move yet.
        """
        self._last[place[0]] = place[1]
        if place in self._finished or self._in_ranges(place):
            return Finished("outcome")
        if (put_off := self._deferred.get(place)) is not None:
            return put_off
        if (started := self._started.get(place)) is not None:
            return InDoubt(max(started.values()))
        return Fresh()

    def _remember(self, message_id: str, round_: int, place: Place) -> None:
        key = hash(message_id)
        seen = self._seen.pop(key, None)
        if seen is not None and seen[0] > round_:
            self._seen[key] = seen
            return
        self._seen[key] = (round_, place)
        if len(self._seen) > self._memory:
            del self._seen[next(iter(self._seen))]

    def _in_ranges(self, place: Place) -> bool:
        ranges = self._ranges.get(place[0], [])
        after = bisect_right(ranges, place[1], key=lambda range_: range_[0])
        return after > 0 and place[1] <= ranges[after - 1][1]


_UNKNOWN = ""
"""Whose attempt it was that only a checkpoint tells of."""
_EVENTS = frozenset(SEND.values())
_HEARD = CONCLUDING | {"attempted", "deferred", "in_doubt"}
_entry = msgspec.json.Decoder(Entry)
_checkpoint = msgspec.json.Decoder(Checkpoint)


def decode_entry(value: bytes) -> Entry:
    """The ledger's part of an outcome event; raises :class:`Undecodable`."""
    try:
        return _entry.decode(value)
    except NOT_DECODED as error:
        raise Undecodable("value", str(error)) from error


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """A checkpoint's JSON."""
    return msgspec.json.encode(checkpoint)


def decode_checkpoint(value: bytes) -> Checkpoint:
    """A checkpoint from its JSON; raises :class:`Undecodable`."""
    try:
        return _checkpoint.decode(value)
    except NOT_DECODED as error:
        raise Undecodable("value", str(error)) from error
