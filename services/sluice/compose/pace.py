"""When composing leaves alone what is not urgent, so that urgent mail finds processors free at every step behind it."""

from __future__ import annotations

import math

from sluice.domain.yielding import Yielding
from sluice.ports.load import Load

LOOK_S = 0.1
"""Seconds between two looks at how busy the machine is. Kernels count in hundredths; and what comes before the first
looks have had an effect is soon more than one urgent mail in a hundred."""
URGENT_S = 2.0
"""Seconds for which an urgent mail is expected to be followed by others."""
SHORTEST_S = 0.002
"""Seconds: shorter pauses are saved up, as a loop's timers are no finer."""
LONGEST_S = 1.0
"""Seconds: nobody waits for longer, whatever a mail with large attachments took."""


class Pace:
    """What is composed is delivered soon after, so whoever paces composing paces deliver, Kafka and all others too.

    Times are in seconds of one clock, which may be set back: nothing lasts longer for it.
    """

    def __init__(self, rule: Yielding, load: Load, now: float) -> None:
        self._rule = rule
        self._load = load
        self._share = 1.0
        self._yielded = 1.0
        self._owed = 0.0
        self._look_at = now + LOOK_S
        self._urgent_until = -math.inf
        self._resumes_at = -math.inf

    def urgent(self, now: float) -> None:
        """An urgent mail is there."""
        if not _ahead(self._urgent_until, now, URGENT_S):
            # What was right while such mail came last is nearer to what is right now than everything is.
            self._share = self._yielded
        self._urgent_until = now + URGENT_S

    def worked(self, seconds: float, now: float) -> None:
        """What is not urgent took ``seconds`` of composing until ``now``."""
        self._owed = min(LONGEST_S, self._owed + seconds * (1.0 / self._share - 1.0))
        if self._owed >= SHORTEST_S:
            self._resumes_at, self._owed = now + self._owed, 0.0

    def pause(self, now: float) -> float:
        """Seconds for which only urgent mail is composed; 0.0 when all may be."""
        return self._resumes_at - now if _ahead(self._resumes_at, now, LONGEST_S) else 0.0

    def look(self, now: float) -> None:
        """Between two turns: follow how busy the machine is, if it is time to."""
        if _ahead(self._look_at, now, LOOK_S):
            return
        urgent = _ahead(self._urgent_until, now, URGENT_S)
        if urgent:
            self._yielded = self._share
        self._share = self._rule.next(self._share, self._load.busy(), urgent=urgent)
        self._look_at = now + LOOK_S


def _ahead(moment: float, now: float, most: float) -> bool:
    """Whether a moment that was ``most`` seconds ahead at most when it was chosen still is."""
    return 0.0 < moment - now <= most
