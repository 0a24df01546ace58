"""Header fields: what may stand in them, and how they are written (RFC 5322, RFC 2047, RFC 2231, RFC 6532).

Every function that writes returns whole fields without the final CRLF, folded with CRLF and a space.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp, b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from sluice.domain.addresses import ATEXT, Party
from sluice.domain.errors import Refused

MAX_LINE = 998
"""RFC 5322 section 2.1.1, without the CRLF."""
FOLD_AT = 76
"""RFC 2047 section 2 asks for this where encoded words stand; it is a good width for all."""
MAX_VALUE = 998

# C1 controls and the Unicode line separators count too: more than one parser splits lines there.
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_surrogate = re.compile("[\ud800-\udfff]")
_encoded_word = re.compile(r"=\?([^?]*)\?([bBqQ])\?(.*?)\?=", re.DOTALL)
_NESTING = 4

_phrase = re.compile(rf"[{ATEXT}]+(?: [{ATEXT}]+)*")
_field_name = re.compile(r"[\x21-\x39\x3b-\x7e]{1,64}")
_reserved = frozenset(
    (
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "received",
        "return-path",
        "authentication-results",
        "received-spf",
        "delivered-to",
        "apparently-to",
        "errors-to",
        "disposition-notification-to",
        "return-receipt-to",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "list-id",
        "dkim-signature",
        "domainkey-signature",
    )
)
_reserved_prefixes = ("content-", "dkim-", "arc-", "resent-", "x-sluice-")


def check_text(value: str, field: str) -> None:
    """Raise :class:`Refused` (category ``injection``) unless ``value`` is safe in a header field.

    No control character may stand in it, neither as it is nor after RFC 2047 decoding: parsers that decode before they
    fold have turned ``=?UTF-8?Q?=0A?=`` into a new header field (CVE-2024-6923).
    """
    if value.isprintable() and "=?" not in value:
        return
    for _ in range(_NESTING):
        if _control.search(value):
            raise Refused(field, "contains a control character, as it is or in an encoded word", "injection")
        if _surrogate.search(value):
            raise Refused(field, "contains half of a surrogate pair, which is no character", "injection")
        decoded = _encoded_word.sub(_decode_word, value) if "=?" in value else value
        if decoded == value:
            return
        value = decoded
    raise Refused(field, "contains encoded words within encoded words", "injection")


def _decode_word(match: re.Match[str]) -> str:
    charset, encoding, text = match.groups()
    data = text.encode("utf-8", "replace")
    try:
        raw = a2b_qp(data, header=True) if encoding in "qQ" else a2b_base64(data + b"==")
    except Base64Error:
        return ""
    # Parsers that ignore the charset see the octets: a control among these counts whatever they decode to.
    if any(octet < 32 or octet == 127 for octet in raw):
        return "\x00"
    try:
        return raw.decode(charset.partition("*")[0])
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")


def check_custom(headers: Mapping[str, str]) -> None:
    """Raise :class:`Refused` (``headers.NAME``) for a custom header that is malformed, reserved or given twice."""
    seen = set()
    for name, value in headers.items():
        if not _field_name.fullmatch(name):
            raise Refused(
                "headers", "a header name is not 1 to 64 printable ASCII characters without colon", "injection"
            )
        lower = name.lower()
        field = f"headers.{name}"
        if lower in _reserved or lower.startswith(_reserved_prefixes):
            raise Refused(field, "this header is written by Sluice and cannot be given", "invalid")
        if lower in seen:
            raise Refused(field, "this header is given twice", "invalid")
        seen.add(lower)
        if len(value) > MAX_VALUE:
            raise Refused(field, f"is longer than {MAX_VALUE} characters", "size")
        check_text(value, field)


def text_field(name: str, value: str) -> str:
    """An unstructured field. Non-ASCII text, and text that a reader would decode or trim, becomes encoded words."""
    if value.isascii() and "=?" not in value and "  " not in value and value == value.strip():
        if len(name) + 2 + len(value) <= FOLD_AT:
            return f"{name}: {value}"
        folded = _fold(name, value.split(" "))
        if max(map(len, folded.split("\r\n"))) <= MAX_LINE:
            return folded
    return f"{name}: " + "\r\n ".join(encoded_words(value, FOLD_AT - len(name) - 2))


def address_field(name: str, parties: Iterable[Party]) -> str:
    """A field that lists mailboxes. Non-ASCII local parts are written as they are (RFC 6532)."""
    tokens: list[str] = []
    for party in parties:
        if tokens:
            tokens[-1] += ","
        spec = party.address.addr_spec
        if party.name:
            tokens += _phrase_tokens(party.name)
            tokens.append(f"<{spec}>")
        else:
            tokens.append(spec)
    return _fold(name, tokens)


def _phrase_tokens(display: str) -> list[str]:
    if display.isascii() and len(display) <= 64 and "=?" not in display:
        if _phrase.fullmatch(display):
            return display.split(" ")
        if "  " not in display and display == display.strip():
            escaped = display.replace("\\", "\\\\").replace('"', '\\"')
            return [f'"{escaped}"']
    return encoded_words(display, 54)


def _fold(name: str, tokens: Sequence[str]) -> str:
    line = f"{name}:"
    width = len(line)
    pieces = [line]
    for position, token in enumerate(tokens):
        if position and width + 1 + len(token) > FOLD_AT:
            pieces.append("\r\n ")
            width = 1 + len(token)
        else:
            pieces.append(" ")
            width += 1 + len(token)
        pieces.append(token)
    return "".join(pieces)


_Q = [
    chr(octet) if chr(octet).isascii() and (chr(octet).isalnum() or chr(octet) in "!*+-/") else f"={octet:02X}"
    for octet in range(256)
]
_Q[32] = "_"


def encoded_words(text: str, first: int) -> list[str]:
    """``text`` as RFC 2047 words of UTF-8, quoted-printable or base64, whichever is shorter.

    The first word is at most ``first`` characters long (but never under 24), the others 75. No character is split.
    """
    data = text.encode()
    quoted = "".join([_Q[octet] for octet in data])
    use_base64 = len(quoted) > (len(data) + 2) // 3 * 4
    room = max(24, min(75, first)) - 12
    if not use_base64:
        if len(quoted) <= room:
            return [f"=?utf-8?q?{quoted}?="]
        return [f"=?utf-8?q?{piece}?=" for piece in _q_pieces(text, room)]
    return [
        f"=?utf-8?b?{b2a_base64(piece, newline=False).decode('ascii')}?="
        for piece in _octet_pieces(text, room // 4 * 3)
    ]


def _q_pieces(text: str, room: int) -> list[str]:
    pieces = [""]
    for character in text:
        written = "".join([_Q[octet] for octet in character.encode()])
        if len(pieces[-1]) + len(written) > room:
            pieces.append("")
            room = 63
        pieces[-1] += written
    return pieces


def _octet_pieces(text: str, room: int) -> list[bytes]:
    pieces = [b""]
    for character in text:
        octets = character.encode()
        if len(pieces[-1]) + len(octets) > room:
            pieces.append(b"")
            room = 45
        pieces[-1] += octets
    return pieces


def parameter(name: str, value: str) -> str:
    """``; name=value`` folded onto a line of its own, as RFC 2231 continuations when it is long or not ASCII."""
    if value.isascii() and len(value) <= 60 and "  " not in value and value == value.strip():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'
    pieces = [""]
    for character in value:
        written = quote(character, safe="!#$&+-.^_`|~")
        if len(pieces[-1]) + len(written) > 55:
            pieces.append("")
        pieces[-1] += written
    if len(pieces) == 1:
        return f";\r\n {name}*=utf-8''{pieces[0]}"
    pieces[0] = f"utf-8''{pieces[0]}"
    return "".join(f";\r\n {name}*{number}*={piece}" for number, piece in enumerate(pieces))


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date_text(seconds: float) -> str:
    """Seconds since the epoch as an RFC 5322 date in UTC; not by ``strftime``, which follows the locale."""
    return _date_text(int(seconds))


@lru_cache(16)
def _date_text(seconds: int) -> str:
    t = datetime.fromtimestamp(seconds, UTC)
    return f"{_DAYS[t.weekday()]}, {t.day} {_MONTHS[t.month - 1]} {t.year:04} {t:%H:%M:%S} +0000"


_id_left = re.compile(rf"[{ATEXT}]+(?:\.[{ATEXT}]+)*")


def rfc5322_message_id(message_id: str, domain: str) -> str:
    """``left@domain`` without angle brackets; what an id may hold and a Message-ID may not is percent-encoded."""
    if not _id_left.fullmatch(message_id):
        message_id = quote(message_id, safe="+/").replace(".", "%2E")
    return f"{message_id}@{domain}"
