"""Limits kept once more where mails leave: those that a standstill of the log gathered do not go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluice.domain.shaping import Gcra
from sluice.ports.clock import Clock

SLACK_S = 0.2
"""Seconds that mails wait at an exit before no more are let in: less, and a log of uneven speed would cost of the
rate; more, and an urgent mail would wait for those that stand there."""
LONGEST_S = 30.0
"""Seconds that a mail is held at its exits at most: its server waits for it."""
SHUT_S = 0.1
"""Seconds after which a mail looks again whether an exit is open."""
NAP_S = 0.5
"""Seconds after which a mail that is held looks whether it still is ours."""


class Exit:
    """The second look at a limit, for what leaves; the first one is at who may begin. Times are since the epoch.

    Between the two an attempt is written down, and mails that began one after the other have that at one moment when
    the log stood. A mail whose log took as long as those before it passes unhindered. ``limiter`` tells the limit in
    force, None for none; ``state`` is that of a :class:`sluice.domain.shaping.Gcra`. ``shut`` tells whether nothing may
    leave for now: others have all of the limit.
    """

    __slots__ = ("_gcra", "_limiter", "_shut", "_state", "waiting")

    def __init__(
        self, limiter: Callable[[float], Gcra | None], state: float, shut: Callable[[], bool] = lambda: False
    ) -> None:
        self._limiter = limiter
        self._shut = shut
        self._gcra: Gcra | None = None
        self._state = state
        self.waiting = 0
        """Mails that are held here."""

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until a mail may leave that goes after ``ahead`` others."""
        gcra = self._follow(now)
        if self._shut():
            return SHUT_S
        return max(0.0, gcra.ready_at(self._state) + ahead * gcra.interval - now) if gcra else 0.0

    def jam(self, now: float) -> float:
        """Seconds that others should wait before they begin, for those that are held here."""
        return max(0.0, self.wait(now, self.waiting) - SLACK_S) if self.waiting else 0.0

    def leave(self, now: float) -> None:
        """One leaves."""
        gcra = self._follow(now)
        if gcra is not None:
            # One that was not held any longer is not charged to those that come when the limit is another again.
            self._state = min(max(self._state, now), now + gcra.tolerance) + gcra.interval

    def _follow(self, now: float) -> Gcra | None:
        was, gcra = self._gcra, self._limiter(now)
        if gcra != was:
            if was is not None and gcra is not None and self._state > now:
                self._state = was.carried(self._state, gcra, now)
            self._gcra = gcra
        return gcra


async def let_out(exits: Sequence[Exit], clock: Clock, given_up: Callable[[], bool]) -> None:
    """Return when a mail may leave through all of ``exits``, after :data:`LONGEST_S`, or when it was ``given_up``."""
    now = clock.now()
    waits = [each.wait(now, each.waiting) for each in exits]
    if any(waits):
        # It stands in one line only: those that the others let go must not wait for it there.
        slowest = exits[waits.index(max(waits))]
        slowest.waiting += 1
        try:
            await _held(max(waits), exits, clock, given_up)
        finally:
            slowest.waiting -= 1
        now = clock.now()
    for each in exits:
        each.leave(now)


async def _held(wait: float, exits: Sequence[Exit], clock: Clock, given_up: Callable[[], bool]) -> None:
    now = clock.now()
    latest = now + LONGEST_S
    while wait > 0 and now < latest and not given_up():
        until = min(now + wait, latest)
        while now < until and not given_up():
            await clock.sleep(min(until - now, NAP_S))
            now = clock.now()
        wait = max(each.wait(now) for each in exits)
