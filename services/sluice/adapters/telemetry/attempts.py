"""What an attempt's spans say: its own, and one for each part of the SMTP conversation."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from sluice.adapters.telemetry.logs import redact
from sluice.adapters.telemetry.sampling import ERROR
from sluice.domain.conversation import Part
from sluice.domain.mail import Envelope
from sluice.domain.smtp import Broken, Replied
from sluice.domain.topics import OUTCOME
from sluice.ports.spans import Tried

_LOG: dict[str, str | int] = {
    "messaging.system": "kafka",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.name": OUTCOME,
}


def attempt_attributes(envelope: Envelope, tried: Tried) -> dict[str, str | int]:
    """Of the span of the attempt."""
    result, verdict, way = tried.result, tried.verdict, tried.way
    found: dict[str, str | int | None] = {
        "messaging.message.id": redact(envelope.message_id),
        "server.address": way.mx_host,
        "network.peer.address": way.mx_address,
        "tls.protocol.version": way.tls.version if way.tls else None,
        "sluice.site": envelope.site,
        "sluice.tenant": envelope.tenant_id,
        "sluice.priority": envelope.priority,
        "sluice.egress": way.egress,
        "sluice.attempt": tried.number,
        "sluice.connection_mail": way.conversation.mail if way.conversation else None,
        "sluice.action": verdict.action,
        "sluice.rule": verdict.rule,
        ERROR: None if verdict.action == "deliver" else verdict.category or verdict.action,
    }
    for reason in tried.waits.__struct_fields__:
        found[f"sluice.waited.{reason}_ms"] = getattr(tried.waits, reason) or None
    if isinstance(result, Replied):
        found |= {"sluice.smtp.code": result.code, "sluice.smtp.enhanced": result.enhanced}
    if isinstance(result, Replied | Broken):
        found["sluice.smtp.phase"] = result.phase
    if not isinstance(result, Replied):
        found["sluice.failure"] = result.reason
    return {name: value for name, value in found.items() if value is not None}


def part_span(part: Part) -> tuple[str, SpanKind, dict[str, str | int]]:
    """Name, kind and attributes of the span of a part of the conversation."""
    if part.phase == "log":
        return f"send {OUTCOME}", SpanKind.PRODUCER, _LOG
    if part.phase == "turn":
        return "wait for turn", SpanKind.INTERNAL, {}
    attributes: dict[str, str | int] = {}
    if part.phase == "connect":
        host, _, port = part.command.rpartition(":")
        attributes["server.address"] = host
        if port.isdigit():
            attributes["server.port"] = int(port)
        if part.well and part.lines:
            attributes["network.peer.address"] = part.lines[0]
    elif part.phase == "tls" and part.well and part.lines:
        attributes["tls.protocol.version"] = part.lines[0].partition(" ")[0]
    if part.code:
        attributes["sluice.smtp.code"] = part.code
    if not part.well:
        attributes[ERROR] = str(part.code) if part.code else (part.lines[0] if part.lines else "").partition(":")[0]
    return f"smtp {part.phase}", SpanKind.CLIENT, attributes
