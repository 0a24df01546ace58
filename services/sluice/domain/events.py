"""The send event: what a producer asks for. Source of ``schemas/send.v1.schema.json``."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sluice.domain.errors import Undecodable

Priority = Literal["high", "normal", "bulk"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "bulk")

Stream = Literal["transactional", "broadcast"]
InDoubtPolicy = Literal["resend", "hold"]

Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]*$")]
"""A name that travels in keys, file names and SQL: letters, digits and ``._:@/+-``, at most 128 characters."""

EmailAddress = Annotated[str, Meta(min_length=3, max_length=320, description="An addr-spec (RFC 5321, RFC 6531)")]
HeaderText = Annotated[str, Meta(max_length=998)]
Moment = Annotated[datetime, Meta(tz=True)]


class Mailbox(msgspec.Struct, frozen=True, gc=False):
    """An address with an optional display name."""

    email: EmailAddress
    name: HeaderText | None = None


class Recipient(msgspec.Struct, frozen=True):
    """One ``to`` entry; each becomes a mail of its own. ``variables`` win over the event's and the profile's."""

    email: EmailAddress
    name: HeaderText | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] = {}


class TemplateRef(msgspec.Struct, frozen=True):
    """Which template to render; ``version`` and ``locale`` default to the published one and the recipient's."""

    id: Identifier
    version: Annotated[int, Meta(ge=1)] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] = {}


class Attachment(msgspec.Struct, frozen=True):
    """A file carried inline, base64 in JSON. ``sha256`` (hex), when given, must match ``content``."""

    filename: Annotated[str, Meta(min_length=1, max_length=255)]
    content: bytes
    content_type: Annotated[str, Meta(max_length=127, pattern=r"^[\w.+-]+/[\w.+-]+$")] = "application/octet-stream"
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None
    disposition: Literal["attachment", "inline"] = "attachment"
    content_id: Annotated[str, Meta(max_length=255)] | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """How the recipient leaves the list (RFC 2369, RFC 8058). ``one_click`` needs an ``https`` ``url``."""

    list_id: Identifier | None = None
    url: Annotated[str, Meta(max_length=900)] | None = None
    mailto: EmailAddress | None = None
    one_click: bool = True


class Tracking(msgspec.Struct, frozen=True):
    """Which recipient actions to track."""

    opens: bool = False
    clicks: bool = False


class SendEvent(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A producer's request for one or more mails (one per ``to``, ``cc`` and ``bcc`` entry).

    Content is either ``template``, or ``subject`` with ``html`` and/or ``text``. Unknown fields are tolerated.
    """

    message_id: Identifier
    tenant_id: Identifier
    to: Annotated[list[Recipient], Meta(min_length=1, max_length=1000)]
    from_: Mailbox | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    stream: Stream = "transactional"
    campaign_id: Identifier | None = None
    reply_to: Mailbox | None = None
    cc: Annotated[list[Mailbox], Meta(max_length=100)] = []
    bcc: Annotated[list[Mailbox], Meta(max_length=100)] = []
    return_path: EmailAddress | None = None
    subject: HeaderText | None = None
    template: TemplateRef | None = None
    html: str | None = None
    text: str | None = None
    headers: dict[str, HeaderText] = {}
    attachments: Annotated[list[Attachment], Meta(max_length=100)] = []
    tags: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=50)] = []
    metadata: dict[str, Annotated[str, Meta(max_length=1024)]] = {}
    unsubscribe: Unsubscribe | None = None
    send_at: Moment | None = None
    expires_at: Moment | None = None
    tracking: Tracking = Tracking()
    in_doubt: InDoubtPolicy | None = None


_decoder = msgspec.json.Decoder(SendEvent)
_path = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)


def decode_send(value: bytes) -> SendEvent:
    """Decode and validate a send event's JSON.

    Raises :class:`Undecodable` naming the path of the first wrong field (``to[0].email``), or ``value`` when the
    bytes are not JSON at all.
    """
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise Undecodable(*locate(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable("value", f"not JSON: {error}") from error


def locate(message: str) -> tuple[str, str]:
    """Split msgspec's ``reason - at `$.path``` into (path without ``$.``, reason)."""
    match = _path.match(message)
    path = (match and match["path"]) or "$"
    reason = match["reason"] if match else message
    missing = re.search(r"missing required field `([^`]+)`", reason)
    if missing:
        path = f"{path}.{missing[1]}"
    return path.removeprefix("$").removeprefix(".") or "value", reason
