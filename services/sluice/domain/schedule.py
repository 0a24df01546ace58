"""The hierarchical timing wheel: which tier a wait enters next.

After G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (1987), over Kafka topics: within a tier every
record waits the same time, so due times are in offset order and a consumer need only look at the head.
"""

from __future__ import annotations

import msgspec

TIERS: tuple[tuple[str, float], ...] = (
    ("1d", 86400.0),
    ("4h", 14400.0),
    ("1h", 3600.0),
    ("15m", 900.0),
    ("5m", 300.0),
    ("2m", 120.0),
    ("30s", 30.0),
    ("10s", 10.0),
)
"""Name and wait in seconds, longest first; a tier's topic is ``mail.wheel.`` and its name."""

SMALLEST = TIERS[-1]


class Enter(msgspec.Struct, frozen=True):
    """Put the record into a tier, where it rests for ``seconds``."""

    tier: str
    seconds: float


class Due(msgspec.Struct, frozen=True):
    """Return the record after ``seconds`` more (0.0: at once); less than the smallest tier is waited for in memory."""

    seconds: float


def next_step(not_before: float, now: float) -> Enter | Due:
    """What to do with a record that must wait until ``not_before`` (both seconds since the epoch).

    The largest tier that is not longer than what is left, so 25 minutes are 15 + 5 + 5.
    """
    left = not_before - now
    for tier, seconds in TIERS:
        if seconds <= left:
            return Enter(tier, seconds)
    return Due(max(0.0, left))


def entry_tier(not_before: float, now: float) -> str:
    """The tier that a mail put off until ``not_before`` is published to; the smallest when it is due sooner."""
    step = next_step(not_before, now)
    return step.tier if isinstance(step, Enter) else SMALLEST[0]


def rests_until(tier: str, stored_at: float, not_before: float) -> float:
    """When a record that entered ``tier`` at ``stored_at`` leaves it.

    After the tier's wait, when enough is left to enter another tier; otherwise the rest is waited for in memory.
    """
    leaves = stored_at + dict(TIERS)[tier]
    return leaves if not_before - leaves >= SMALLEST[1] else not_before
