"""DKIM signatures, relaxed/relaxed (RFC 6376), with RSA (RFC 8301) and Ed25519 (RFC 8463).

The octets are hashed and the field is written here; the operation with the private key is passed in.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from sluice.domain.errors import Refused

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
Sign = Callable[[bytes], bytes]
"""The private-key operation. ``rsa-sha256``: PKCS #1 v1.5 with SHA-256 over the octets. ``ed25519-sha256``: pure
Ed25519 over the octets, which then are the SHA-256 digest already."""

SIGNED = frozenset(
    b"""from to cc subject date message-id reply-to in-reply-to references mime-version content-type
    content-transfer-encoding list-id list-unsubscribe list-unsubscribe-post feedback-id auto-submitted""".split()
)
OVERSIGNED = (
    b"from", b"to", b"cc", b"reply-to", b"subject", b"date", b"message-id", b"mime-version", b"content-type",
)  # fmt: skip
"""Signed once more than they occur (RFC 6376 section 5.4.2), so that adding one later breaks the signature."""

_whitespace = re.compile(rb"[ \t]+")


class Digest(msgspec.Struct, frozen=True):
    """What the signatures of one message have in common."""

    body_hash: bytes
    """Base64."""
    fields: bytes
    """The signed fields, relaxed, each with its CRLF, in the order of ``names``."""
    names: tuple[bytes, ...]
    """For ``h=``, lower case."""


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 section 3.4.4: no trailing whitespace, runs of it one space, no empty lines at the end."""
    body = body.replace(b"\t", b" ")
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    body = body.replace(b" \r\n", b"\r\n")
    # On the wire the last line has a CRLF too, so what is trailing there is trailing here.
    body = body.removesuffix(b" ")
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """RFC 6376 section 3.4.2, without a CRLF at the end. ``value`` is what follows the colon, folds included."""
    value = value.replace(b"\r\n", b"")
    if b"\t" in value or b"  " in value:
        value = _whitespace.sub(b" ", value)
    return b"%b:%b" % (name.strip(b" \t").lower(), value.strip(b" "))


def digest(content: bytes) -> Digest:
    """Hash a message once for all its signatures. Raises :class:`Refused` when it has no From field to sign."""
    head, _, body = content.partition(b"\r\n\r\n")
    found: dict[bytes, list[bytes]] = {}
    for raw in re.split(rb"\r\n(?![ \t])", head):
        name, colon, value = raw.partition(b":")
        key = name.strip(b" \t").lower()
        if colon and key in SIGNED:
            found.setdefault(key, []).append(relaxed_field(key, value))
    if b"from" not in found:
        raise Refused("from", "a message without a From field cannot be signed", "invalid_sender")
    names: list[bytes] = []
    lines: list[bytes] = []
    for key, fields in found.items():
        # Verifiers take repeated fields from the bottom up (RFC 6376 section 5.4.2).
        lines += reversed(fields)
        names += [key] * len(fields)
    names += OVERSIGNED
    lines.append(b"")
    body_hash = b64encode(hashlib.sha256(relaxed_body(body)).digest())
    return Digest(body_hash, b"\r\n".join(lines), tuple(names))


def signature_field(
    digest: Digest,
    *,
    algorithm: Algorithm,
    domain: str,
    selector: str,
    sign: Sign,
    now: float,
    expires_at: float | None = None,
) -> bytes:
    """The whole DKIM-Signature field with its final CRLF, to be put before the message's first field.

    Times are seconds since the epoch; ``expires_at`` None leaves ``x=`` out. Lines are at most 78 octets unless a
    domain or selector alone is longer, and ``h=`` is folded between names only: strict verifiers break otherwise.
    """
    parts = [b"v=1; a=%b; c=relaxed/relaxed;" % algorithm.encode("ascii")]
    parts.append(b"d=%b; s=%b;" % (domain.encode("ascii"), selector.encode("ascii")))
    parts.append(b"t=%d;" % now if expires_at is None else b"t=%d; x=%d;" % (now, expires_at))
    parts += _names(digest.names)
    parts.append(b"bh=%b;" % digest.body_hash)
    # Each part begins a line of its own; relaxed, the fold is one space. So the field need not be parsed to be hashed.
    hashed = b"%bdkim-signature:%b b=" % (digest.fields, b" ".join(parts))
    octets = sign(hashed if algorithm == "rsa-sha256" else hashlib.sha256(hashed).digest())
    value = b64encode(octets)
    lines = [value[start : start + 72] for start in range(0, len(value), 72)]
    return b"DKIM-Signature: %b\r\n\tb=%b\r\n" % (b"\r\n\t".join(parts), b"\r\n\t".join(lines))


def _names(names: Sequence[bytes]) -> list[bytes]:
    lines = [b"h=" + names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) > 74:
            lines[-1] += b":"
            lines.append(name)
        else:
            lines[-1] += b":" + name
    lines[-1] += b";"
    return lines
