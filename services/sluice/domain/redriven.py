"""A mail that is driven again: how its event differs from the first one, and what goes with it through the pipeline."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluice.domain.errors import NOT_DECODED, Undecodable
from sluice.domain.events import Identifier
from sluice.domain.mail import NOT_BEFORE, PUBLISHED_AT, RETURN_TO, Headers

REDRIVE = "sluice-redrive"
"""Header of a send event that a plan drives again: a :class:`Redrive` as JSON."""
_NOT_KEPT = frozenset((REDRIVE, PUBLISHED_AT, NOT_BEFORE, RETURN_TO, "ce_id", "ce_time", "traceparent", "tracestate"))


class Redrive(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which plan drives which mail again. ``only`` is the recipient's place among the event's, where it has several:
    no other mail is made of it. ``egress`` is where the mail is to leave from, whatever tenant and site say."""

    plan: Identifier
    of: Annotated[str, Meta(min_length=1, max_length=160)]
    only: Annotated[int, Meta(ge=0)] | None = None
    egress: Annotated[str, Meta(max_length=128)] | None = None


class Again(msgspec.Struct, frozen=True):
    """What is published to drive a mail again, but for the topic."""

    message_id: str
    tenant_id: str
    idempotency_key: str
    value: bytes
    headers: Headers


_redrive = msgspec.json.Decoder(Redrive)


def read_redrive(headers: Iterable[tuple[str, bytes]]) -> Redrive | None:
    """The plan and origin that a record's headers tell, None when it is no driven mail; raises Undecodable."""
    for name, value in headers:
        if name == REDRIVE:
            try:
                return _redrive.decode(value)
            except NOT_DECODED as error:
                raise Undecodable(REDRIVE, str(error)) from error
    return None


def driven_id(plan: str, of: str, run: str, at: float) -> str:
    """A UUIDv7 for the mail that ``run`` of a plan makes of another; ``at`` in seconds since the epoch.

    Every run gives another: an event that a driver published, and a second one after it was killed, are then two
    requests with one idempotency key, of which compose makes one mail. With the same id the second would be taken for
    the first one read again, and composed.
    """
    digest = hashlib.blake2b(f"{plan}\x1f{of}\x1f{run}".encode(), digest_size=10).digest()
    number = (int(at * 1000) & ((1 << 48) - 1)) << 80 | int.from_bytes(digest, "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=number))


def driven_key(of: str) -> str:
    """The idempotency key under which a mail is driven again, the same for every plan: it is driven once."""
    return f"sluice-redrive:{of}"


def drive_again(
    value: bytes, headers: Iterable[tuple[str, bytes]], redrive: Redrive, *,
    message_id: str, template_version: int | None, time: str,
) -> Again:  # fmt: skip
    """The event that asks for one mail of ``value`` once more. ``time`` is RFC 3339, now.

    All that its producer wrote stays, but for the id and the key, and the template's version where one is given.
    Raises :class:`Undecodable` when ``value`` is no event, or not the one that asked for ``redrive.of``.
    """
    try:
        event = msgspec.json.decode(value)
    except NOT_DECODED as error:
        raise Undecodable("value", str(error)) from error
    if not isinstance(event, dict) or not isinstance(event.get("message_id"), str):
        raise Undecodable("value", "no send event")
    redrive = msgspec.structs.replace(redrive, only=_place(event, redrive.of))
    key = driven_key(redrive.of)
    event |= {"message_id": message_id, "idempotency_key": key}
    template = event.get("template")
    if template_version is not None and isinstance(template, dict):
        event["template"] = {**template, "version": template_version}
    kept = [pair for pair in headers if pair[0] not in _NOT_KEPT]
    kept += [
        ("ce_id", message_id.encode()),
        ("ce_time", time.encode()),
        (REDRIVE, msgspec.json.encode(redrive)),
    ]
    return Again(message_id, str(event.get("tenant_id", "")), key, msgspec.json.encode(event), kept)


def _place(event: dict[str, Any], of: str) -> int | None:
    """Which of the event's recipients the mail ``of`` is for; None when there is one."""
    own = event["message_id"]
    if of == own:
        return None
    total = sum(len(event.get(field) or ()) for field in ("to", "cc", "bcc"))
    number = of.removeprefix(f"{own}.")
    if of.startswith(f"{own}.") and number.isdecimal() and int(number) < total:
        return int(number)
    raise Undecodable("message_id", "the record is of another mail")
