"""Moments as people type them: RFC 3339, or so much from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sluice.commands.failures import WrongUsage

_ahead = re.compile(r"\+?(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_moment(text: str, option: str, now: datetime) -> datetime:
    """``2026-05-01T09:00:00+02:00``, or ``90s``, ``30m``, ``2h``, ``7d``, ``4w`` from ``now``; in UTC.

    Raises :class:`WrongUsage` naming ``option``, also for a time without an offset: it would mean another moment on
    another machine.
    """
    if match := _ahead.fullmatch(text.strip()):
        try:
            return (now + timedelta(seconds=float(match[1]) * _SECONDS[match[2]])).astimezone(UTC)
        except OverflowError as error:
            raise WrongUsage(f"{option}: {text} from now is beyond the calendar") from error
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise WrongUsage(
            f"{option}: {text!r} is no moment: write 2026-05-01T09:00:00Z, or 30m, 2h, 7d for so much from now"
        ) from error
    if moment.tzinfo is None:
        raise WrongUsage(f"{option}: {text!r} has no offset: add Z for UTC, or +02:00")
    return moment.astimezone(UTC)
