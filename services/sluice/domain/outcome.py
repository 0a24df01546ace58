"""The outcome event: what is known after a step or an attempt. Source of ``schemas/outcome.v1.schema.json``."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.conversation import Conversation
from sluice.domain.errors import Undecodable
from sluice.domain.events import Priority, Stream, locate
from sluice.domain.mail import Waits
from sluice.domain.smtp import Phase, TlsPolicy
from sluice.domain.tls_sessions import TlsSession

OutcomeType = Literal[
    "accepted", "rejected", "suppressed", "scheduled", "composed", "attempted", "delivered", "deferred", "bounced",
    "expired", "cancelled", "in_doubt", "held", "dead", "redriven",
    "opened", "clicked", "complained", "unsubscribed", "bounced_later",
]  # fmt: skip

FINAL: frozenset[OutcomeType] = frozenset(
    ("rejected", "suppressed", "delivered", "bounced", "expired", "cancelled", "dead")
)
"""Outcomes after which nothing more happens to a mail by itself."""

Fault = Literal["recipient", "sender", "site", "producer", "operator", "none"]
"""Whose fault a failure is; only the recipient's own suppress."""


class SmtpReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply an attempt ended in."""

    code: int
    phase: Phase
    text: str = ""
    enhanced: str | None = None


class TlsUsed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The protection the attempt's connection had."""

    policy: TlsPolicy
    version: str | None = None
    cipher: str | None = None
    failure: str | None = None
    """What an MTA-STS policy in testing would have refused it for, or why there is no TLS though it was offered."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """The Kafka record that this outcome concludes; ``round`` as in :class:`sluice.domain.mail.Progress`."""

    topic: str
    partition: int
    offset: int
    round: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one mail. ``event_id`` is the same whenever the same thing is recorded again."""

    event_id: str
    event_type: OutcomeType
    event_time: Annotated[datetime, Meta(tz=True)]
    message_id: str
    tenant_id: str
    priority: Priority | None = None
    stream: Stream | None = None
    rfc5322_message_id: str | None = None
    campaign_id: str | None = None
    template_id: str | None = None
    variant: str | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    recipient: str | None = None
    recipient_hash: str | None = None
    recipient_domain: str | None = None
    site: str | None = None
    lane: str | None = None
    mx_host: str | None = None
    mx_address: str | None = None
    egress: str | None = None
    attempt: int = 0
    smtp: SmtpReply | None = None
    category: str | None = None
    fault: Fault | None = None
    rule: str | None = None
    field: str | None = None
    """For ``rejected`` and ``dead``: the path of the field at fault."""
    reason: str | None = None
    tls: TlsUsed | None = None
    tls_sessions: list[TlsSession] = []
    """Sessions begun for this attempt, failed ones too, for the reports of RFC 8460 to ``recipient_domain``."""
    size_bytes: int = 0
    queued_at: Annotated[datetime, Meta(tz=True)] | None = None
    waits: Waits = Waits()
    duration_ms: float = 0.0
    next_attempt_at: Annotated[datetime, Meta(tz=True)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    """For what compose says: until when the producer wanted the mail sent, where it said so."""
    source: Source | None = None
    redrive_plan: str | None = None
    redrive_of: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    """Of the attempt, where its trace is exported."""
    conversation: Conversation | None = None
    node: str | None = None


def event_id(message_id: str, event_type: OutcomeType, *parts: object) -> str:
    """A deterministic id: 32 hexadecimal digits of the facts that make the event what it is."""
    text = "\x1f".join((message_id, event_type, *map(str, parts)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as a UTC datetime, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Outcome)


def encode_outcome(outcome: Outcome) -> bytes:
    """The event's JSON; fields at their default are left out."""
    return _encode(outcome)


def decode_outcome(value: bytes) -> Outcome:
    """Decode and validate an outcome event's JSON; raises :class:`Undecodable` with the field's path."""
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise Undecodable(*locate(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable("value", f"not JSON: {error}") from error
