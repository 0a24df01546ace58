"""When to try again."""

from __future__ import annotations

import msgspec

from sluice.domain.events import Priority


class RetryPolicy(msgspec.Struct, frozen=True):
    """How long to wait after each failed attempt.

    ``delays`` in seconds, by attempts made; the last repeats. ``jitter`` is the proportion by which a delay may be
    longer or shorter, so that mails deferred together do not come back together. A wait the server asks for is obeyed
    between ``hint_least`` and ``hint_most`` seconds.
    """

    delays: tuple[float, ...]
    jitter: float = 0.1
    hint_least: float = 5.0
    hint_most: float = 14400.0


class Pace(msgspec.Struct, frozen=True):
    """What differs for a kind of failure: delays of its own (empty keeps the schedule's), and a shortest wait."""

    delays: tuple[float, ...] = ()
    at_least: float = 0.0


class RetryRules(msgspec.Struct, frozen=True):
    """Schedules by priority, and paces by the name a bounce rule gives (its category unless it says otherwise).

    ``lifetimes`` are the seconds a mail of each priority is tried for when its event names no expiry.
    """

    schedules: dict[Priority, RetryPolicy]
    lifetimes: dict[Priority, float]
    paces: dict[str, Pace] = {}

    def policy_for(self, priority: Priority, pace: str | None = None) -> RetryPolicy:
        """The policy for a mail of ``priority`` whose last attempt failed in the way ``pace`` names."""
        policy = self.schedules[priority]
        found = self.paces.get(pace) if pace else None
        if found is None:
            return policy
        delays = tuple(max(found.at_least, delay) for delay in found.delays or policy.delays)
        return msgspec.structs.replace(policy, delays=delays)


def next_attempt(
    policy: RetryPolicy, *, attempt: int, now: float, expires_at: float, hint: float | None, spread: float
) -> float | None:
    """When to try again, or None when that would be after the mail has expired.

    ``attempt`` counts the attempts made (1 after the first), times are seconds since the epoch, ``hint`` is the wait in
    seconds that the server asked for, ``spread`` a number in [0, 1) that places the wait within its jitter. A hint is
    only ever lengthened: a server that greylists counts an early return as none.
    """
    if hint is not None:
        wait = min(max(hint, policy.hint_least), policy.hint_most) * (1 + policy.jitter * spread)
    else:
        wait = policy.delays[min(max(attempt, 1), len(policy.delays)) - 1] * (1 + policy.jitter * (2 * spread - 1))
    due = now + wait
    return due if due < expires_at else None
