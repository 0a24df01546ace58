"""Whose an event is that could not be decoded."""

from __future__ import annotations

import msgspec

from sluice.ports.intake import Taken


def names(record: Taken) -> tuple[str | None, str]:
    """The message id and tenant of an event that could not be decoded, as far as they can be made out."""
    try:
        body = msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, ""
    if not isinstance(body, dict):
        return None, ""
    message_id, tenant_id = body.get("message_id"), body.get("tenant_id")
    if not isinstance(message_id, str) or not 0 < len(message_id) <= 128:
        given = dict(record.headers).get("ce_id", b"").decode("utf-8", "replace")[:128]
        message_id = given or f"{record.topic}:{record.partition}:{record.offset}"
    return message_id, tenant_id[:128] if isinstance(tenant_id, str) else ""
