"""Where an event comes from, as its record tells."""

from __future__ import annotations

from sluice.compose.step import Origin
from sluice.domain.events import Priority
from sluice.domain.mail import PUBLISHED_AT, Headers
from sluice.domain.outcome import Source
from sluice.domain.redriven import read_redrive
from sluice.domain.topics import SEND
from sluice.ports.intake import Taken

PRIORITY_OF: dict[str, Priority] = {topic: priority for priority, topic in SEND.items()}
_TOO_LONG = 15
"""Digits of milliseconds since the epoch that are no date."""


def origin_of(record: Taken) -> Origin:
    """Of a record of ``mail.send.*``; raises Undecodable when a plan's header cannot be read."""
    headers = dict(record.headers)
    stamp = headers.get(PUBLISHED_AT, b"")
    at = int(stamp) / 1000 if stamp.isdigit() and len(stamp) < _TOO_LONG else record.stored_at
    traceparent = headers.get("traceparent", b"").decode("ascii", "replace") or None
    return Origin(PRIORITY_OF[record.topic], at, traceparent, source_of(record), read_redrive(record.headers))


def source_of(record: Taken) -> Source:
    """The record, as outcomes name it."""
    return Source(record.topic, record.partition, record.offset)


def published(record: Taken, origin: Origin) -> Headers:
    """The record's headers, with the time of its publication fixed before it moves."""
    kept = [pair for pair in record.headers if pair[0] != PUBLISHED_AT]
    return [*kept, (PUBLISHED_AT, str(round(origin.published_at * 1000)).encode())]
