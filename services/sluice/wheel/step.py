"""Where a record that has rested goes next."""

from __future__ import annotations

import re

import msgspec

from sluice.domain.errors import Undecodable
from sluice.domain.mail import NOT_BEFORE, PROGRESS, PUBLISHED_AT, RETURN_TO, Instant, Waits
from sluice.domain.schedule import Enter, next_step, rests_until
from sluice.domain.topics import READY, SEND, WHEEL
from sluice.ports.bus import Record
from sluice.ports.intake import Taken

_TIER = {topic: tier for tier, topic in WHEEL.items()}
_milliseconds = re.compile(rb"[0-9]{1,14}")
"""To the year 5138, which is as good as never."""
_place = re.compile(r"([^:]+)(?::([0-9]{1,9}))?")
_RETURNS: frozenset[str] = frozenset((*SEND.values(), *READY.values()))
REASONS: tuple[str, ...] = (*Waits.__struct_fields__, "other")
"""What :func:`waits_for` may say."""


class _Why(msgspec.Struct, frozen=True):
    reason: str | None = None


class _Since(msgspec.Struct, frozen=True):
    since: Instant | None = None


_why = msgspec.json.Decoder(_Why).decode
_since = msgspec.json.Decoder(_Since).decode


def due_at(record: Taken) -> float:
    """When a record of ``mail.wheel.*`` leaves its tier, seconds since the epoch. Raises :class:`Undecodable`."""
    return rests_until(_TIER[record.topic], record.stored_at, _not_before(record))


def move_on(record: Taken, now: float) -> Record:
    """The record's next place: a smaller tier, or back where it came from. Raises :class:`Undecodable`."""
    step = next_step(_not_before(record), now)
    if isinstance(step, Enter):
        return Record(WHEEL[step.tier], record.value, record.key, record.headers)
    topic, partition = _return_to(record)
    headers = [pair for pair in record.headers if pair[0] not in (NOT_BEFORE, RETURN_TO)]
    return Record(topic, record.value, record.key, headers, partition)


def waits_for(record: Taken) -> str:
    """What a record of ``mail.wheel.*`` waits for: its ``schedule``, or what deliver put its mail off for."""
    headers = dict(record.headers)
    if headers.get(RETURN_TO, b"").startswith(b"mail.send."):
        return "schedule"
    try:
        reason = _why(headers.get(PROGRESS, b"{}")).reason
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "other"
    return reason if reason in REASONS else "other"


def rests_since(record: Taken) -> float:
    """When a record came into the wheel: put off by deliver, or published as an event for later; else into its tier."""
    headers = dict(record.headers)
    published = headers.get(PUBLISHED_AT, b"")
    if _milliseconds.fullmatch(published):
        return int(published) / 1000
    try:
        return _since(headers.get(PROGRESS, b"{}")).since or record.stored_at
    except (msgspec.DecodeError, UnicodeDecodeError):
        return record.stored_at


def _not_before(record: Taken) -> float:
    found = _milliseconds.fullmatch(dict(record.headers).get(NOT_BEFORE, b""))
    if found is None:
        raise Undecodable(NOT_BEFORE, "header is missing or not a number of milliseconds")
    return int(found[0]) / 1000


def _return_to(record: Taken) -> tuple[str, int | None]:
    text = dict(record.headers).get(RETURN_TO, b"").decode("utf-8", "replace")
    found = _place.fullmatch(text)
    if found is None or found[1] not in _RETURNS:
        raise Undecodable(RETURN_TO, "header is missing or does not name a topic that mails return to")
    return found[1], None if found[2] is None else int(found[2])
