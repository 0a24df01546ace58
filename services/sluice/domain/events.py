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
ReportType = Literal["tlsrpt"]

Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]*\Z")]
"""A name that travels in keys, file names and SQL: letters, digits and ``._:@/+-``, at most 128 characters."""

EmailAddress = Annotated[str, Meta(min_length=3, max_length=320, description="An addr-spec (RFC 5321, RFC 6531)")]
HeaderText = Annotated[str, Meta(max_length=998)]
MetadataText = Annotated[str, Meta(max_length=1024)]
MediaType = Annotated[str, Meta(max_length=127, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+\Z")]
"""``type/subtype`` in the characters of RFC 6838, section 4.2."""
Moment = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with an offset."""
LAST_YEAR = 2999
"""Moments of a send event lie in years up to this one, so that no arithmetic on them overflows."""


LARGE = 1_000_000
"""Bytes of an event from which on its values are counted before it is decoded: thirteen million empty lists are 40 MB
of JSON and a gigabyte of memory."""
MOST_NESTS = 250_000
MOST_VALUES = 2_000_000


class Mailbox(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An address with an optional display name."""

    email: EmailAddress
    name: HeaderText | None = None


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ``to`` entry; each becomes a mail of its own. ``variables`` win over the event's and the profile's."""

    email: EmailAddress
    name: HeaderText | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] = {}


class TemplateRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which template to render; ``version`` and ``locale`` default to the published one and the recipient's."""

    id: Identifier
    version: Annotated[int, Meta(ge=1, le=2_147_483_647)] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] = {}


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file carried inline, base64 in JSON. ``sha256`` (hex), when given, must match ``content``."""

    filename: Annotated[str, Meta(min_length=1, max_length=255)]
    content: bytes
    content_type: MediaType = "application/octet-stream"
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    disposition: Literal["attachment", "inline"] = "attachment"
    content_id: Annotated[str, Meta(max_length=255)] | None = None


class Unsubscribe(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the recipient leaves the list (RFC 2369, RFC 8058). ``one_click`` needs an ``https`` ``url``."""

    list_id: Identifier | None = None
    url: Annotated[str, Meta(max_length=900)] | None = None
    mailto: EmailAddress | None = None
    one_click: bool = True


class Tracking(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which recipient actions to track."""

    opens: bool = False
    clicks: bool = False


class SendEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A producer's request for one or more mails (one per ``to``, ``cc`` and ``bcc`` entry).

    Content is either ``template``, or ``subject`` with ``html`` and/or ``text``. Unknown fields are tolerated.
    """

    message_id: Identifier
    """Names the request in every outcome; a UUIDv7 made by the SDK."""
    tenant_id: Identifier
    """Who sends; must be known to Sluice."""
    to: Annotated[list[Recipient], Meta(min_length=1, max_length=1000)]
    """One mail is made for each entry."""
    from_: Mailbox | None = None
    """The From header; the tenant's own when absent. Its domain must be one of the tenant's."""
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """A second event of the tenant with the same key within the window (24 h) sends nothing."""
    stream: Stream = "transactional"
    """``broadcast`` is mail to many, which its recipients can unsubscribe from; ``transactional`` answers an action."""
    campaign_id: Identifier | None = None
    """Groups the mails of one batch in outcomes and limits."""
    reply_to: Mailbox | None = None
    """The Reply-To header."""
    cc: Annotated[list[Mailbox], Meta(max_length=100)] = []
    """Each entry gets a mail of its own and is named in the Cc header."""
    bcc: Annotated[list[Mailbox], Meta(max_length=100)] = []
    """Each entry gets a mail of its own and is named in no header."""
    return_path: EmailAddress | None = None
    """The envelope's sender, where bounces go; the tenant's own when absent."""
    subject: HeaderText | None = None
    """The Subject header, when there is no ``template``."""
    template: TemplateRef | None = None
    """What to render; excludes ``subject``, ``html`` and ``text``."""
    html: str | None = None
    """The HTML part, sent as it is."""
    text: str | None = None
    """The plain text part, sent as it is; made from ``html`` when absent."""
    headers: dict[str, HeaderText] = {}
    """Further header fields by name."""
    attachments: Annotated[list[Attachment], Meta(max_length=100)] = []
    """Files carried inline."""
    tags: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=50)] = []
    """Words to group outcomes by."""
    metadata: dict[str, MetadataText] = {}
    """The producer's own values, returned in every outcome."""
    unsubscribe: Unsubscribe | None = None
    """How the recipient leaves the list; the tenant's own when absent."""
    send_at: Moment | None = None
    """Not before this moment."""
    expires_at: Moment | None = None
    """Not after this moment: what is not delivered by then ends as ``expired``."""
    tracking: Tracking = Tracking()
    """Which recipient actions to track."""
    report_type: ReportType | None = None
    """Makes the mail a ``multipart/report`` of the text and the attachments. ``tlsrpt`` is a report of SMTP TLS
    reporting (RFC 8460), for tenants that may send them; it goes out although the TLS that its recipient asks for
    fails."""
    in_doubt: InDoubtPolicy | None = None
    """Whether to send again when it is unknown if the receiving server took the mail."""


_decoder = msgspec.json.Decoder(SendEvent)
_entries: dict[str, Any] = {"headers": HeaderText, "metadata": MetadataText}
_plain_name = re.compile(r"^[A-Za-z0-9._-]{1,64}\Z")
_path = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)


def decode_send(value: bytes) -> SendEvent:
    """Decode and validate a send event's JSON.

    Raises :class:`Undecodable` naming the path of the first wrong field (``to[0].email``, ``headers.X-Tag``), or
    ``value`` when the bytes are not JSON at all. Of a name that is given twice the last counts (RFC 8259, section 4).
    """
    if len(value) > LARGE and (value.count(b"[") + value.count(b"{") > MOST_NESTS or value.count(b",") > MOST_VALUES):
        raise Undecodable("value", "holds too many values: in memory they would take many times their bytes")
    try:
        event = _decoder.decode(value)
    except msgspec.ValidationError as error:
        path, reason = locate(str(error))
        raise Undecodable(_name_entry(value, path), reason) from error
    except RecursionError as error:
        raise Undecodable("value", "nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable("value", f"not JSON: {error}") from error
    for name, moment in (("send_at", event.send_at), ("expires_at", event.expires_at)):
        if moment is not None and not 1970 <= moment.year <= LAST_YEAR:
            raise Undecodable(name, f"Expected a year from 1970 to {LAST_YEAR}")
    return event


def locate(message: str) -> tuple[str, str]:
    """Split msgspec's ``reason - at `$.path``` into (path without ``$.``, reason without what the producer wrote)."""
    match = _path.match(message)
    path = (match and match["path"]) or "$"
    reason = match["reason"] if match else message
    missing = re.search(r"missing required field `([^`]+)`", reason)
    if missing:
        path = f"{path}.{missing[1]}"
    if reason.startswith("Invalid enum value"):
        reason = "Invalid enum value"
    return path.removeprefix("$").removeprefix(".") or "value", reason


def _name_entry(value: bytes, path: str) -> str:
    """Replace msgspec's ``headers[...]`` by ``headers.NAME``, when the name is safe to repeat."""
    field = path.removesuffix("[...]")
    kind = _entries.get(field) if field != path else None
    if kind is None:
        return path
    try:
        entries = msgspec.json.decode(value)[field]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return path
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        try:
            msgspec.convert(entry, kind)
        except msgspec.ValidationError:
            return f"{field}.{name}" if _plain_name.match(name) else path
    return path
