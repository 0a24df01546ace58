"""An outcome as a row of the table ``outcomes`` (schemas/clickhouse/0001_outcomes.sql)."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from sluice.domain.conversation import Exchange
from sluice.domain.mail import Waits
from sluice.ports.outcomes import Recorded

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""Retention is reckoned in 32-bit times, which end in 2106."""
_NO_WAITS = Waits()
_json = msgspec.json.Encoder().encode


class OutcomeRow(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The columns by name; what is absent takes the column's default."""

    event_id: str
    event_type: str
    event_time: datetime
    message_id: str
    tenant_id: str
    log_partition: int
    log_offset: int
    priority: str | None = None
    stream: str | None = None
    rfc5322_message_id: str | None = None
    campaign_id: str | None = None
    template_id: str | None = None
    variant: str | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    recipient_hash: str | None = None
    recipient_domain: str | None = None
    site: str | None = None
    lane: str | None = None
    mx_host: str | None = None
    mx_address: str | None = None
    egress: str | None = None
    attempt: int = 0
    smtp_code: int = 0
    smtp_enhanced: str | None = None
    smtp_phase: str | None = None
    smtp_text: str = ""
    conversation: list[Exchange] = []
    connection_mail: int = 0
    category: str | None = None
    fault: str | None = None
    rule: str | None = None
    field: str | None = None
    reason: str | None = None
    tls_policy: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_sessions: str = ""
    size_bytes: int = 0
    queued_at: datetime | None = None
    wait_queue_ms: int = 0
    wait_schedule_ms: int = 0
    wait_rate_ms: int = 0
    wait_connection_ms: int = 0
    wait_retry_ms: int = 0
    duration_ms: float = 0.0
    next_attempt_at: datetime | None = None
    expires_at: datetime | None = None
    source_topic: str | None = None
    source_partition: int = 0
    source_offset: int = 0
    source_round: int = 0
    redrive_plan: str | None = None
    redrive_of: str | None = None
    trace_id: str | None = None
    node: str | None = None


def outcome_row(entry: Recorded) -> OutcomeRow:
    """Flatten an outcome. Numbers and times that no column can hold are brought to the nearest that one can: a row
    that the server refuses would hold up its whole partition."""
    outcome = entry.outcome
    smtp, tls, source, waits = outcome.smtp, outcome.tls, outcome.source, outcome.waits
    row = OutcomeRow(
        event_id=outcome.event_id,
        event_type=outcome.event_type,
        event_time=_time(outcome.event_time),
        message_id=outcome.message_id,
        tenant_id=outcome.tenant_id,
        log_partition=entry.partition,
        log_offset=entry.offset,
        priority=outcome.priority,
        stream=outcome.stream,
        rfc5322_message_id=outcome.rfc5322_message_id,
        campaign_id=outcome.campaign_id,
        template_id=outcome.template_id,
        variant=outcome.variant,
        tags=outcome.tags,
        metadata=outcome.metadata,
        recipient_hash=outcome.recipient_hash,
        recipient_domain=outcome.recipient_domain,
        site=outcome.site,
        lane=outcome.lane,
        mx_host=outcome.mx_host,
        mx_address=outcome.mx_address,
        egress=outcome.egress,
        attempt=_unsigned(outcome.attempt, 32),
        category=outcome.category,
        fault=outcome.fault,
        rule=outcome.rule,
        field=outcome.field,
        reason=outcome.reason,
        size_bytes=_unsigned(outcome.size_bytes, 32),
        duration_ms=outcome.duration_ms,
        redrive_plan=outcome.redrive_plan,
        redrive_of=outcome.redrive_of,
        trace_id=outcome.trace_id,
        node=outcome.node,
    )
    if outcome.queued_at is not None:
        row.queued_at = _time(outcome.queued_at)
    if outcome.next_attempt_at is not None:
        row.next_attempt_at = _time(outcome.next_attempt_at)
    if outcome.expires_at is not None:
        row.expires_at = _time(outcome.expires_at)
    if smtp is not None:
        row.smtp_code = _unsigned(smtp.code, 16)
        row.smtp_enhanced = smtp.enhanced
        row.smtp_phase = smtp.phase
        row.smtp_text = smtp.text
    if outcome.conversation is not None:
        row.conversation = outcome.conversation.exchanges
        row.connection_mail = _unsigned(outcome.conversation.mail, 32)
    if tls is not None:
        row.tls_policy, row.tls_version, row.tls_cipher = tls.policy, tls.version, tls.cipher
    if outcome.tls_sessions:
        row.tls_sessions = _json(outcome.tls_sessions).decode()
    if source is not None:
        row.source_topic = source.topic
        row.source_partition = _signed(source.partition, 32)
        row.source_offset = _signed(source.offset, 64)
        row.source_round = _unsigned(source.round, 32)
    if waits != _NO_WAITS:
        row.wait_queue_ms = _unsigned(waits.queue, 32)
        row.wait_schedule_ms = _unsigned(waits.schedule, 32)
        row.wait_rate_ms = _unsigned(waits.rate, 32)
        row.wait_connection_ms = _unsigned(waits.connection, 32)
        row.wait_retry_ms = _unsigned(waits.retry, 32)
    return row


def _time(value: datetime) -> datetime:
    # Years well within need no comparison of times, which is slow; one of these is due for every outcome.
    return value if 1970 < value.year < 2099 else min(max(value, _EARLIEST), _LATEST)


def _unsigned(value: int, bits: int) -> int:
    return value if 0 <= value < 1 << bits else min(max(value, 0), (1 << bits) - 1)


def _signed(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return min(max(value, -half), half - 1)
