"""From an admitted event and what was rendered to the octets of one mail, not yet signed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.domain.addresses import Party
from sluice.domain.admission import Admitted, Delivery
from sluice.domain.events import SendEvent
from sluice.domain.headers import address_field, check_text, date_text, rfc5322_message_id, text_field
from sluice.domain.mime import Field, Part, attachment_part, body_entity, message_bytes
from sluice.domain.plaintext import plain_text
from sluice.domain.unsubscribe import unsubscribe_fields

MAX_READ_OUT = 256 * 1024
"""Characters of HTML up to which a missing text part is made; what is larger goes without."""


class Rendered(msgspec.Struct, frozen=True):
    """The words of one mail. At least one of ``html`` and ``text`` is there."""

    subject: str
    html: str | None = None
    text: str | None = None


def given_content(event: SendEvent) -> Rendered:
    """The words of an event that brings its own (no template); a missing text part is read out of the HTML.

    Do it once per event: it is the same for all its recipients.
    """
    text = event.text
    if text is None and event.html is not None and len(event.html) <= MAX_READ_OUT:
        text = plain_text(event.html) or None
    return Rendered(event.subject or "", event.html, text)


def encode_attachments(event: SendEvent) -> tuple[Part, ...]:
    """The event's attachments, encoded. Do it once per event: they are the same for all its recipients."""
    return tuple(attachment_part(attachment) for attachment in event.attachments)


def message_id_of(admitted: Admitted, delivery: Delivery) -> str:
    """The RFC 5322 Message-ID of a mail, without angle brackets: its ``message_id`` at the sender's domain."""
    return rfc5322_message_id(delivery.message_id, admitted.sender.address.domain_ascii)


def needs_smtputf8(admitted: Admitted, delivery: Delivery) -> bool:
    """Whether a non-ASCII local part stands in the envelope or in a header field (RFC 6531, RFC 6532)."""
    named = [admitted.sender.address, admitted.return_path, delivery.address, _addressee(admitted, delivery).address]
    named += [party.address for party in admitted.cc]
    if admitted.reply_to:
        named.append(admitted.reply_to.address)
    return any(address.needs_smtputf8 for address in named)


def compose_content(
    admitted: Admitted, delivery: Delivery, rendered: Rendered, parts: Sequence[Part], *, date: float
) -> bytes:
    """The RFC 5322 octets of one mail, CRLF line ends throughout, every line at most 998 octets long.

    ``date`` is seconds since the epoch, for the Date field. The same arguments give the same octets. ``To`` names the
    one recipient whose mail this is (for cc and bcc: whose copy), ``Cc`` all of cc; bcc is named nowhere.

    Raises :class:`Refused` when a value would break out of its field or a body holds what is no character.
    """
    check_text(rendered.subject, "subject")
    message_id = message_id_of(admitted, delivery)
    domain = admitted.sender.address.domain_ascii
    fields: list[Field] = [
        ("Date", f"Date: {date_text(date)}"),
        ("Message-ID", f"Message-ID: <{message_id}>"),
        ("From", address_field("From", [admitted.sender])),
    ]
    fields.append(("To", address_field("To", [_addressee(admitted, delivery)])))
    cc = admitted.cc
    if cc:
        fields.append(("Cc", address_field("Cc", cc)))
    if admitted.reply_to:
        fields.append(("Reply-To", address_field("Reply-To", [admitted.reply_to])))
    fields.append(("Subject", text_field("Subject", rendered.subject)))
    if admitted.unsubscribe:
        fields += unsubscribe_fields(admitted.unsubscribe, domain)
    fields += [(name, text_field(name, value)) for name, value in admitted.event.headers.items()]
    body = body_entity(rendered.text, rendered.html, parts, message_id, admitted.event.report_type)
    return message_bytes(fields, body)


def _addressee(admitted: Admitted, delivery: Delivery) -> Party:
    shown = admitted.deliveries[delivery.rendered_for]
    return Party(shown.address, shown.name)
