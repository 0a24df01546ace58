"""Records in the form their topics carry: keys, headers and values in one place for every service that publishes."""

from __future__ import annotations

import msgspec

from sluice.domain.mail import (
    NOT_BEFORE,
    PROGRESS,
    RETURN_TO,
    Headers,
    Mail,
    Progress,
    next_round,
    ready_headers,
    with_progress,
)
from sluice.domain.outcome import Outcome, encode_outcome
from sluice.domain.reference import Suppression, suppression_key
from sluice.domain.schedule import entry_tier
from sluice.domain.topics import DEAD, OUTCOME, READY, SUPPRESSIONS, WHEEL
from sluice.ports.bus import Record
from sluice.ports.intake import Taken

REASON = "sluice-reason"
"""Header of a dead letter: what was wrong, in a sentence without addresses."""
ORIGIN = "sluice-origin"
"""Header of a dead letter: ``topic:partition:offset`` that it was read from; replaying publishes it to that topic."""


def outcome_record(outcome: Outcome, partition: int, *, patient: bool = False) -> Record:
    """An outcome for the partition of ``mail.outcome`` that goes with a lane's; ``patient`` as in :class:`Record`."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"sluice.outcome.v1"),
        ("ce_id", outcome.event_id.encode()),
        ("ce_source", b"sluice"),
        ("content-type", b"application/json"),
    ]
    # An attempt may not go on before it is written down; all others only say what has happened.
    awaited = outcome.event_type == "attempted"
    urgent = awaited and outcome.priority == "high"
    key = outcome.message_id.encode()
    return Record(OUTCOME, encode_outcome(outcome), key, headers, partition, urgent, awaited, patient)


def ready_record(
    mail: Mail, partition: int, *, time: str, traceparent: str | None = None, patient: bool = False
) -> Record:
    """A composed mail for its lane's partition; ``time`` as in :func:`ready_headers`, ``patient`` as in
    :class:`Record`."""
    envelope = mail.envelope
    headers = ready_headers(mail, time=time, traceparent=traceparent)
    urgent = envelope.priority == "high"
    topic, key = READY[envelope.priority], envelope.domain.encode()
    return Record(topic, mail.content, key, headers, partition, urgent, patient=patient)


def put_off_record(record: Taken, progress: Progress, until: float, now: float) -> Record:
    """A mail's own record, on its way into the wheel until ``until``, to come back to where it was."""
    headers = with_progress(record.headers, progress)
    return wheel_record(record, headers, until, now, f"{record.topic}:{record.partition}")


def wheel_record(record: Taken, headers: Headers, until: float, now: float, return_to: str) -> Record:
    """Any record, for the tier in which it waits first; ``return_to`` is ``topic`` or ``topic:partition``."""
    kept = [pair for pair in headers if pair[0] not in (NOT_BEFORE, RETURN_TO)]
    kept += [(NOT_BEFORE, str(round(until * 1000)).encode()), (RETURN_TO, return_to.encode())]
    return Record(WHEEL[entry_tier(until, now)], record.value, record.key, kept)


def dead_record(record: Taken, reason: str) -> Record:
    """The bytes of a record that could not be handled, with why and where it came from."""
    headers = [pair for pair in record.headers if pair[0] not in (REASON, ORIGIN)]
    headers += [
        (REASON, reason[:1000].encode("utf-8", "replace")),
        (ORIGIN, f"{record.topic}:{record.partition}:{record.offset}".encode()),
    ]
    return Record(DEAD, record.value, record.key, headers)


def replay_record(record: Taken, topic: str, partition: int | None) -> Record:
    """A dead letter as it was, for where it was. A composed mail gets the next round: its lane's owner would take the
    same round for a repeat of the one that it remembers."""
    headers = [pair for pair in record.headers if pair[0] not in (REASON, ORIGIN)]
    progress = next((value for name, value in headers if name == PROGRESS), None)
    if progress is not None:
        headers = with_progress(headers, next_round(progress))
    return Record(topic, record.value, record.key, headers, partition)


def suppression_record(suppression: Suppression) -> Record:
    """A suppression, for the compacted topic."""
    key = suppression_key(suppression.tenant_id, suppression.stream, suppression.email)
    return Record(SUPPRESSIONS, msgspec.json.encode(suppression), key.encode())
