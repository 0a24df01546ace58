"""When composing pauses, so that urgent mail finds the machine free at every step behind it."""

from __future__ import annotations

import math

from sluice.domain.yielding import Yielding

LOOK_S = 0.1
"""Seconds between two looks at the share."""
URGENT_S = 2.0
"""Seconds for which an urgent mail is expected to be followed by others."""
SHORTEST_S = 0.002
"""Seconds: shorter pauses are saved up, as a loop's timers are no finer."""
LONGEST_S = 0.01
"""Seconds: urgent mail that comes in a pause waits for its end. What is owed beyond is forgotten."""


class Pace:
    """What is composed is delivered soon after, so whoever paces composing paces deliver, Kafka and all others too.

    Times are in seconds of one clock.
    """

    def __init__(self, rule: Yielding, now: float) -> None:
        self._rule = rule
        self.share = 1.0
        """Of the time, for what is not urgent."""
        self._owed = 0.0
        self._late = 0.0
        self._looks = 0
        self._look_at = now + LOOK_S
        self._urgent_until = -math.inf

    def urgent(self, now: float) -> None:
        """An urgent mail is there."""
        self._urgent_until = now + URGENT_S

    def pause(self, worked: float, *, urgent_waits: bool) -> float:
        """How long to pause after ``worked`` seconds for what is not urgent; 0.0 for only a turn for others."""
        self._owed = min(LONGEST_S, self._owed + worked * (1.0 / self.share - 1.0))
        if urgent_waits or self._owed < SHORTEST_S:
            return 0.0
        pause, self._owed = self._owed, 0.0
        return pause

    def resumed(self, late: float, now: float) -> None:
        """From the turn's beginning until the next the loop took ``late`` seconds longer than asked for.

        Whatever took them, others' turns or the processor's being elsewhere, an urgent mail waits for at each step.
        """
        self._late += max(0.0, late)
        self._looks += 1
        if now >= self._look_at:
            self.share = self._rule.next(self.share, self._late / self._looks, urgent=now < self._urgent_until)
            self._late, self._looks, self._look_at = 0.0, 0, now + LOOK_S
