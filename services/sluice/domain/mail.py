"""A mail between compose and the receiving server: its envelope, its progress, and their Kafka headers.

The content (RFC 5322 bytes) travels as the record's value and is never parsed again. The envelope is written once, the
progress anew whenever the mail moves, so that putting a mail off costs one small header.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.errors import NOT_DECODED, Undecodable
from sluice.domain.events import InDoubtPolicy, Priority, Stream

Headers = list[tuple[str, bytes]]
"""Kafka record headers, in order."""

ENVELOPE = "sluice-envelope"
PROGRESS = "sluice-progress"
NOT_BEFORE = "not-before"
"""Milliseconds since the epoch, decimal: a wheel record is not returned before it."""
PUBLISHED_AT = "sluice-published-at"
"""Milliseconds since the epoch, decimal: when a producer published an event that was moved since."""
RETURN_TO = "return-to"
"""``topic`` or ``topic:partition``: where the wheel puts the record when it is due."""


Instant = Annotated[float, Meta(ge=0, lt=32_503_680_000)]
"""Seconds since the epoch, before the year 3000, so that no arithmetic on them overflows."""
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]
WaitReason = Literal["queue", "schedule", "rate", "connection", "retry"]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a mail when it is composed. Times are seconds since the epoch."""

    message_id: str
    rfc5322_message_id: str
    tenant_id: str
    stream: Stream
    priority: Priority
    mail_from: str
    rcpt_to: str
    domain: str
    """The recipient's domain, lower case, A-label form."""
    site: str
    lane: str
    size: Count
    """Content length in bytes."""
    queued_at: Instant
    """When the producer published the event."""
    composed_at: Instant
    expires_at: Instant
    campaign_id: str | None = None
    template_id: str | None = None
    variant: str | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    in_doubt: InDoubtPolicy = "resend"
    despite_tls: bool = False
    """Whether it goes though the TLS that its domain or site asks for fails (RFC 8460 section 3)."""
    smtputf8: bool = False
    egress: str | None = None
    """The egress, or pool, that it leaves from, whatever its tenant and its site say."""
    redrive_plan: str | None = None
    redrive_of: str | None = None
    """The mail that a plan made it of."""
    trace_id: str | None = None


class Waits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a mail's time went so far, in milliseconds, by reason."""

    queue: Milliseconds = 0
    schedule: Milliseconds = 0
    rate: Milliseconds = 0
    connection: Milliseconds = 0
    retry: Milliseconds = 0

    def plus(self, reason: str, milliseconds: float) -> Waits:
        """The same with ``milliseconds`` more under ``reason``."""
        value = getattr(self, reason) + max(0, round(milliseconds))
        return msgspec.structs.replace(self, **{reason: value})


SlotOf = Literal["site", "shared"]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a mail has come.

    ``attempt`` counts attempts already made. ``round`` counts the times that deliver put it into the wheel or handed it
    to another partition: with the message id it names one appearance of the mail, so that a repeated record is
    recognised. ``slot`` is the time reserved for it by a rate limit; ``slot_of`` says whose: its site's, or one that
    sites share. ``moves`` counts how often in a row it went to another lane.
    """

    attempt: Count = 0
    round: Count = 0
    waits: Waits = Waits()
    slot: Instant | None = None
    slot_of: SlotOf = "site"
    since: Instant | None = None
    """When the present wait began, seconds since the epoch."""
    reason: WaitReason | None = None
    """What the present wait is for."""
    moves: Count = 0


class Mail(msgspec.Struct, frozen=True):
    """One composed message for one recipient."""

    envelope: Envelope
    content: bytes
    progress: Progress = Progress()


_envelope = msgspec.json.Decoder(Envelope)
_progress = msgspec.json.Decoder(Progress)
_encode = msgspec.json.Encoder().encode


def ready_headers(mail: Mail, *, time: str, traceparent: str | None = None) -> Headers:
    """The header set of a ready mail: CloudEvents 1.0 binary mode, envelope and progress.

    ``time`` is RFC 3339, when the mail was composed.
    """
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"sluice.ready.v1"),
        ("ce_id", mail.envelope.message_id.encode()),
        ("ce_source", b"sluice/compose"),
        ("ce_time", time.encode()),
        ("content-type", b"message/rfc822"),
        (ENVELOPE, _encode(mail.envelope)),
        (PROGRESS, _encode(mail.progress)),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def with_progress(headers: Iterable[tuple[str, bytes]], progress: Progress) -> Headers:
    """The same headers with another progress and no wheel headers."""
    kept = [(name, value) for name, value in headers if name not in (PROGRESS, NOT_BEFORE, RETURN_TO)]
    kept.append((PROGRESS, _encode(progress)))
    return kept


def next_round(progress: bytes) -> Progress:
    """A mail's progress, as its header has it, one round on; raises :class:`Undecodable`."""
    try:
        found = _progress.decode(progress)
    except NOT_DECODED as error:
        raise Undecodable(PROGRESS, str(error)) from error
    return msgspec.structs.replace(found, round=found.round + 1)


def with_envelope(headers: Iterable[tuple[str, bytes]], envelope: Envelope) -> Headers:
    """The same headers with another envelope."""
    return [*(pair for pair in headers if pair[0] != ENVELOPE), (ENVELOPE, _encode(envelope))]


def read_mail(headers: Iterable[tuple[str, bytes]], content: bytes) -> Mail:
    """Rebuild a mail from a record of ``mail.ready.*``.

    Raises :class:`Undecodable` naming the header that is missing or wrong.
    """
    found = dict(headers)
    try:
        envelope = _envelope.decode(found[ENVELOPE])
    except KeyError as error:
        raise Undecodable(ENVELOPE, "header is missing") from error
    except NOT_DECODED as error:
        raise Undecodable(ENVELOPE, str(error)) from error
    try:
        progress = _progress.decode(found.get(PROGRESS, b"{}"))
    except NOT_DECODED as error:
        raise Undecodable(PROGRESS, str(error)) from error
    return Mail(envelope, content, progress)
