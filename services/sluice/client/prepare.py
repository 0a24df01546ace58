"""From a mail to the record that asks for it: validated, with key, headers and topic. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from sluice.domain.errors import Refused, Undecodable
from sluice.domain.events import PRIORITIES, Priority, SendEvent, decode_send

Headers = list[tuple[str, str | bytes | None]]
"""Kafka record headers, in order."""

MailLike = SendEvent | Mapping[str, Any] | bytes | str
"""A send event: the Struct, a mapping with the event's JSON names, or its JSON. All but the Struct may lack an id."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A record of ``mail.send.*``, ready to publish."""

    message_id: str
    tenant_id: str
    idempotency_key: str | None
    topic: str
    key: bytes
    value: bytes
    headers: Headers


def prepare(
    mail: MailLike, priority: Priority | None, *, source: str, new_id: Callable[[], str], now: str, traceparent: str
) -> Prepared:
    """Validate and encode a send event.

    Without a ``priority``, broadcast mail is ``bulk`` and any other ``normal``. ``now`` is RFC 3339. Raises
    :class:`Refused` naming the field at fault, :class:`ValueError` for a priority that there is not.
    """
    if priority is not None and priority not in PRIORITIES:
        raise ValueError(f"priority is one of {', '.join(PRIORITIES)}, not {priority!r}")
    value = _json(mail, new_id)
    try:
        event = decode_send(value)
    except Undecodable as error:
        raise Refused(error.field, error.reason) from error
    chosen = priority or ("bulk" if event.stream == "broadcast" else "normal")
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"sluice.send.v1"),
        ("ce_id", event.message_id),
        ("ce_source", source),
        ("ce_time", now),
        ("content-type", b"application/json"),
        ("traceparent", traceparent),
    ]
    key = domain_key(event.to[0].email)
    return Prepared(
        event.message_id, event.tenant_id, event.idempotency_key, f"mail.send.{chosen}", key, value, headers
    )


def _json(mail: MailLike, new_id: Callable[[], str]) -> bytes:
    """The event's JSON, with a message id."""
    try:
        if isinstance(mail, SendEvent):
            return _encode(mail)
        fields = _decode(mail) if isinstance(mail, bytes | str) else mail
        if not isinstance(fields, Mapping):
            raise Refused("value", "Expected `object`")
        if "from_" in fields:
            raise Refused("from_", "outside Python the field is named `from`; use that in a mapping")
        if fields.get("message_id") is None:
            fields = {**fields, "message_id": new_id()}
        elif isinstance(mail, bytes):
            return mail
        return _encode(fields)
    except RecursionError as error:
        raise Refused("value", "nested too deeply") from error
    except (msgspec.DecodeError, msgspec.EncodeError, TypeError, ValueError, OverflowError) as error:
        raise Refused("value", f"cannot be JSON: {_without_content(error)}") from error


def _without_content(error: Exception) -> str:
    """What an encoder or decoder says, less the text it was given (UnicodeError repeats it)."""
    return error.reason if isinstance(error, UnicodeError) and hasattr(error, "reason") else str(error)


def domain_key(email: str) -> bytes:
    """The record key: the address's domain, lower case, A-labels.

    A domain that the standard library cannot convert keeps its own letters: the key only decides which events share a
    partition, and whether the name is valid is told by the outcome. Raises :class:`Refused` when there is no domain.
    """
    local, _, domain = email.rpartition("@")
    if not local or not domain:
        raise Refused("to[0].email", "has no domain: an address is local-part@domain")
    return _key(domain)


@lru_cache(maxsize=65536)
def _key(domain: str) -> bytes:
    lowered = domain.strip().rstrip(".").lower()
    try:
        return lowered.encode("ascii") if lowered.isascii() else lowered.encode("idna")
    except UnicodeError:
        return lowered.encode()
