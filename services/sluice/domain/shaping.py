"""How fast, and whose turn: rates, their enforcement by GCRA, and the order of priorities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from sluice.domain.errors import RuleError

_UNITS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip
_duration = re.compile(r"^(\d{1,9}(?:\.\d{1,6})?)(s|sec|m|min|h|d)$")
_rate = re.compile(r"^(\d{1,9}(?:\.\d{1,6})?)/([a-z]{1,6})(?:,burst=(\d{1,9}))?$")

FINEST = 0.1
"""Seconds of a rate that may leave at once when no burst is given: finer timing than this is not worth a wake-up."""


def parse_duration(text: str) -> float:
    """Seconds in ``90s``, ``1.5m``, ``2h`` or ``1d``. Raises :class:`RuleError`."""
    match = _duration.match(text.strip())
    if not match:
        raise RuleError(f"not a duration: {text!r}; write a number and s, m, h or d, such as 90s")
    return float(match[1]) * _UNITS[match[2]]


class Rate(msgspec.Struct, frozen=True):
    """``count`` per ``per`` seconds, of which ``burst`` may leave at once after idleness."""

    count: float
    per: float
    burst: int = 1

    @property
    def interval(self) -> float:
        """Seconds between two at the steady rate."""
        return self.per / self.count

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``100/s``, ``60/min`` or ``5000/h,burst=50``. Raises :class:`RuleError`.

        Without ``burst``, what the rate grants in :data:`FINEST` seconds, at least one.
        """
        match = _rate.match(text.replace(" ", "").lower())
        if not match or match[2] not in _UNITS:
            raise RuleError(f"not a rate: {text!r}; write 100/s, 60/min or 5000/h,burst=50")
        count, per = float(match[1]), _UNITS[match[2]]
        if count <= 0:
            raise RuleError(f"a rate of nothing: {text!r}; to stop a site, suspend it")
        burst = max(1, int(count / per * FINEST)) if match[3] is None else int(match[3])
        if burst < 1:
            raise RuleError(f"a burst below 1 lets nothing through: {text!r}")
        return cls(count, per, burst)

    def shared(self, parts: int) -> Rate:
        """The share of one of ``parts`` equal owners."""
        return Rate(self.count / parts, self.per, max(1, self.burst // parts))

    def __str__(self) -> str:
        name = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}.get(self.per, f"{self.per:g}s")
        return f"{self.count:g}/{name},burst={self.burst}"


class Gcra(msgspec.Struct, frozen=True):
    """The generic cell rate algorithm (ITU-T I.371, virtual scheduling).

    The state is one number: the *theoretical arrival time*, seconds, at which the next would come if all came evenly.
    Start with :data:`IDLE`. In any window of ``w`` seconds at most ``w / interval + burst`` slots are given.
    """

    interval: float
    tolerance: float

    @classmethod
    def of(cls, rate: Rate) -> Gcra:
        """The limiter for ``rate``."""
        return cls(rate.interval, (rate.burst - 1) * rate.interval)

    def reserve(self, state: float, now: float) -> tuple[float, float]:
        """Take the next slot: (new state, the time from which it may be used, never before ``now``).

        A slot is taken whether or not it is used: giving one back would let two leave at the same moment later.
        """
        earliest = state - self.tolerance
        return max(state, now) + self.interval, max(earliest, now)

    def allow(self, state: float, now: float) -> tuple[float, bool]:
        """Take a slot only if there is one now: (new state, True), or (the same state, False)."""
        if state - self.tolerance > now:
            return state, False
        return max(state, now) + self.interval, True

    def carried(self, state: float, into: Gcra, now: float) -> float:
        """The state under another limiter: no more may leave at once than could before, and what the next still has to
        wait is the same part of an interval."""
        left = (now + self.tolerance - max(state, now)) / self.interval
        return now + into.tolerance - min(left * into.interval, into.tolerance)

    def ready_at(self, state: float) -> float:
        """When the next slot is to be had; in the past when there is one now."""
        return state - self.tolerance


IDLE = -math.inf
"""The state of a limiter that has never been used."""


def stretched(slot: float, since: float, scale: float) -> float:
    """A slot that was booked under another rate: as many times later after ``since`` as an interval is longer now."""
    return since + (slot - since) * scale if slot > since else slot


class Turns(msgspec.Struct, frozen=True):
    """Where a :class:`WeightedChooser` stands: each class's start tag, who was waiting, and virtual time."""

    tags: tuple[int, ...]
    waiting: tuple[bool, ...]
    virtual: int = 0


class WeightedChooser:
    """Whose turn it is among classes with weights, by start-time fair queueing (Goyal, Vin and Cheng, 1996).

    While several classes wait they are served in proportion to their weights; one that always waits is served at least
    once in as many turns as the weights' sum over its own, plus one turn per class. A class that was idle neither
    saves turns up nor pays for the past.
    """

    __slots__ = ("_steps",)

    def __init__(self, weights: Sequence[int]) -> None:
        """``weights`` are positive; the earlier of two equal claims wins."""
        if not weights or min(weights) < 1:
            raise RuleError("weights must be whole numbers of at least 1")
        whole = math.lcm(*weights)
        self._steps = tuple(whole // weight for weight in weights)

    def start(self) -> Turns:
        """The state in which nobody was served yet."""
        return Turns((0,) * len(self._steps), (False,) * len(self._steps))

    def choose(self, turns: Turns, waiting: Sequence[bool]) -> tuple[Turns, int | None]:
        """Serve one class: (new state, its index), or (the same state, None) when nobody waits."""
        virtual = turns.virtual
        tags = list(turns.tags)
        best: int | None = None
        for index, waits in enumerate(waiting):
            if not waits:
                continue
            if tags[index] < virtual and not turns.waiting[index]:
                tags[index] = virtual
            if best is None or tags[index] < tags[best]:
                best = index
        if best is None:
            return turns, None
        virtual = tags[best]
        tags[best] += self._steps[best]
        return Turns(tuple(tags), tuple(waiting), virtual), best


PRIORITY_WEIGHTS = (16, 4, 1)
"""Turns of high, normal and bulk (the order of :data:`sluice.domain.events.PRIORITIES`) while all three wait."""
