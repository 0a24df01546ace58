"""Outcome events from the facts they record."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from functools import lru_cache

import msgspec

from sluice.domain.addresses import Address
from sluice.domain.bounce import Verdict
from sluice.domain.conversation import Conversation
from sluice.domain.events import Priority, SendEvent
from sluice.domain.mail import Envelope, Waits
from sluice.domain.outcome import Fault, Outcome, OutcomeType, SmtpReply, Source, TlsUsed, event_id, moment
from sluice.domain.redriven import Redrive
from sluice.domain.smtp import Broken, Replied, Result, Tls
from sluice.domain.tls_sessions import TlsSession


class Way(msgspec.Struct, frozen=True):
    """The way an attempt took: server, its address, the protection, where it left from, its sessions, what was said.

    ``span_id`` is the attempt's in its trace, where that is exported.
    """

    mx_host: str | None = None
    mx_address: str | None = None
    tls: Tls | None = None
    egress: str | None = None
    sessions: tuple[TlsSession, ...] = ()
    conversation: Conversation | None = None
    span_id: str | None = None


class Recorder(msgspec.Struct, frozen=True):
    """Builds outcomes in the name of one process. ``hash_key`` keys the addresses' hash."""

    node: str
    hash_key: bytes

    def of_mail(
        self,
        envelope: Envelope,
        event_type: OutcomeType,
        now: float,
        *id_parts: object,
        attempt: int = 0,
        waits: Waits = Waits(),  # noqa: B008  frozen
        source: Source | None = None,
        result: Result | None = None,
        verdict: Verdict | None = None,
        category: str | None = None,
        reason: str | None = None,
        way: Way = Way(),  # noqa: B008  frozen
        duration_ms: float = 0.0,
        next_attempt_at: float | None = None,
        expires_at: datetime | None = None,
    ) -> Outcome:
        """What happened to a composed mail at ``now``; ``id_parts`` tell apart events of the same type."""
        return Outcome(
            event_id=event_id(envelope.message_id, event_type, *id_parts),
            event_type=event_type,
            event_time=moment(now),
            message_id=envelope.message_id,
            tenant_id=envelope.tenant_id,
            priority=envelope.priority,
            stream=envelope.stream,
            rfc5322_message_id=envelope.rfc5322_message_id,
            campaign_id=envelope.campaign_id,
            template_id=envelope.template_id,
            variant=envelope.variant,
            tags=envelope.tags,
            metadata=envelope.metadata,
            recipient=envelope.rcpt_to,
            recipient_hash=self.hashed(envelope.rcpt_to),
            recipient_domain=envelope.domain,
            site=envelope.site,
            lane=envelope.lane,
            mx_host=way.mx_host,
            mx_address=way.mx_address,
            egress=way.egress,
            attempt=attempt,
            smtp=_reply(result),
            category=category or (verdict.category if verdict else None),
            fault=verdict.fault if verdict else None,
            rule=verdict.rule if verdict else None,
            reason=reason or _reason(result),
            tls=_tls(way.tls) if way.tls else None,
            tls_sessions=list(way.sessions),
            size_bytes=envelope.size,
            queued_at=moment(envelope.queued_at),
            waits=waits,
            duration_ms=round(duration_ms, 3),
            next_attempt_at=None if next_attempt_at is None else moment(next_attempt_at),
            expires_at=expires_at,
            source=source,
            redrive_plan=envelope.redrive_plan,
            redrive_of=envelope.redrive_of,
            trace_id=envelope.trace_id,
            span_id=way.span_id,
            conversation=way.conversation,
            node=self.node,
        )

    def of_event(
        self,
        event: SendEvent,
        message_id: str,
        event_type: OutcomeType,
        now: float,
        *id_parts: object,
        priority: Priority,
        queued_at: float,
        recipient: Address | None = None,
        category: str | None = None,
        fault: Fault | None = None,
        field: str | None = None,
        reason: str | None = None,
        next_attempt_at: float | None = None,
        trace_id: str | None = None,
        source: Source | None = None,
        redrive: Redrive | None = None,
    ) -> Outcome:
        """What happened to an event that is not a mail yet, or to one recipient's part of it."""
        return Outcome(
            event_id=event_id(message_id, event_type, *id_parts),
            event_type=event_type,
            event_time=moment(now),
            message_id=message_id,
            tenant_id=event.tenant_id,
            priority=priority,
            stream=event.stream,
            campaign_id=event.campaign_id,
            template_id=event.template.id if event.template else None,
            tags=event.tags,
            metadata=event.metadata,
            recipient=recipient.addr_spec if recipient else None,
            recipient_hash=self.hashed(recipient.addr_spec) if recipient else None,
            recipient_domain=recipient.domain_ascii if recipient else None,
            category=category,
            fault=fault,
            field=field,
            reason=reason,
            queued_at=moment(queued_at),
            next_attempt_at=None if next_attempt_at is None else moment(next_attempt_at),
            expires_at=event.expires_at,
            source=source,
            redrive_plan=redrive.plan if redrive else None,
            redrive_of=redrive.of if redrive and redrive.of != message_id else None,
            trace_id=trace_id,
            node=self.node,
        )

    def of_record(
        self,
        message_id: str,
        tenant_id: str,
        event_type: OutcomeType,
        now: float,
        *,
        field: str,
        reason: str,
        category: str = "undecodable",
        fault: Fault = "producer",
        source: Source | None = None,
        redrive: Redrive | None = None,
    ) -> Outcome:
        """What happened to a record that did not become an event; ``tenant_id`` may be empty, nobody knows it then."""
        return Outcome(
            event_id=event_id(message_id, event_type, field),
            event_type=event_type,
            event_time=moment(now),
            message_id=message_id,
            tenant_id=tenant_id,
            category=category,
            fault=fault,
            field=field,
            reason=reason[:500],
            source=source,
            redrive_plan=redrive.plan if redrive else None,
            redrive_of=redrive.of if redrive else None,
            node=self.node,
        )

    def hashed(self, address: str) -> str:
        """The keyed hash of an address (case-folded): 32 hexadecimal digits, the same for the same address."""
        return _hashed(self.hash_key, address)


@lru_cache(10_000)
def _hashed(key: bytes, address: str) -> str:
    return hmac.digest(key, address.casefold().encode(), hashlib.sha256).hex()[:32]


def _reply(result: Result | None) -> SmtpReply | None:
    if not isinstance(result, Replied):
        return None
    return SmtpReply(result.code, result.phase, result.text, result.enhanced)


def _tls(tls: Tls) -> TlsUsed:
    return TlsUsed(tls.policy, tls.version, tls.cipher, tls.failure)


def _reason(result: Result | None) -> str | None:
    if result is None or isinstance(result, Replied):
        return None
    phase = result.phase if isinstance(result, Broken) else "dot"
    return f"{phase}: {result.reason}" + (f": {result.detail}" if result.detail else "")
