"""When a DKIM key was made, and when it is to be replaced by another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from sluice.domain.reference import SigningKey

DAY = 86_400.0
_month = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?:-?(0[1-9]|[12]\d|3[01]))?(?!\d)")

State = Literal["fresh", "due", "missing"]


class KeyAge(msgspec.Struct, frozen=True):
    """A key that is signed with, and when it was made, in seconds since the epoch; None when it is not there."""

    key: SigningKey
    made_at: float | None

    def state(self, now: float, rotate: float) -> State:
        """``rotate`` is the age in seconds at which a key is to be replaced; 0 for never."""
        if self.made_at is None:
            return "missing"
        return "due" if rotate and now - self.made_at >= rotate else "fresh"


def named_time(selector: str) -> float | None:
    """When a key was made by its selector, if that has a year and a month: ``s202611-rsa``, ``2026-11-23``.

    Seconds since the epoch, the first day of the month where no day is given.
    """
    match = _month.search(selector)
    if match is None:
        return None
    try:
        return datetime(int(match[1]), int(match[2]), int(match[3] or 1), tzinfo=UTC).timestamp()
    except ValueError:
        return None


def first_due(ages: Iterable[KeyAge], rotate: float) -> float | None:
    """When the oldest key is to be replaced, in seconds since the epoch; None without keys or when none ever is."""
    made = [age.made_at for age in ages if age.made_at is not None]
    return min(made) + rotate if made and rotate else None
