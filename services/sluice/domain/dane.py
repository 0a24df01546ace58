"""TLSA records: which of them SMTP can use, and whether one matches a certificate (RFC 6698, 7671 and 7672)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

TRUST_ANCHOR, END_ENTITY = 2, 3
"""Certificate usages DANE-TA and DANE-EE, the two that mean anything to SMTP (RFC 7672 section 3.1)."""
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_FULL = 0
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
_LARGEST = 65_535


class Tlsa(msgspec.Struct, frozen=True, order=True):
    """One record: certificate usage, selector (0 certificate, 1 public key), matching type (0 full, 1 SHA-256,
    2 SHA-512) and certificate association data."""

    usage: int
    selector: int
    matching: int
    data: bytes


class DaneHost(msgspec.Struct, frozen=True):
    """What DNSSEC vouches for of one mail host.

    ``base`` is the TLSA base domain, which is also the name for SNI. ``records`` are the usable ones: none means that
    records are published, which asks for TLS, and that none can authenticate anybody (RFC 7672 section 2.2). ``names``
    are those of which a certificate under a DANE-TA record must have one.
    """

    base: str
    records: tuple[Tlsa, ...]
    names: tuple[str, ...]


class DaneFailed(msgspec.Struct, frozen=True):
    """Whether a host has TLSA records could not be had: it must not be connected to now (RFC 7672 section 2.1.2)."""

    reason: str


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that SMTP can use, each once, in a steady order.

    Where digests of several strengths stand for one usage and selector, only the strongest counts (RFC 7671 section 9).
    """
    fit = sorted({record for record in records if _is_usable(record)})
    strongest = {(record.usage, record.selector): record.matching for record in fit}
    return tuple(
        record
        for record in fit
        if record.matching == _FULL or record.matching == strongest[record.usage, record.selector]
    )


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (_CERTIFICATE, _PUBLIC_KEY):
        return False
    if record.matching == _FULL:
        return 0 < len(record.data) <= _LARGEST
    digest = _DIGESTS.get(record.matching)
    return digest is not None and len(record.data) == digest().digest_size


def matches(record: Tlsa, certificate: bytes) -> bool:
    """Whether a usable record is about this certificate (DER); False for what is no certificate."""
    try:
        selected = certificate if record.selector == _CERTIFICATE else public_key(certificate)
    except ValueError:
        return False
    digest = _DIGESTS.get(record.matching)
    return hmac.compare_digest(record.data, selected if digest is None else digest(selected).digest())


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of an X.509 certificate, both DER, byte for byte as it stands in it.

    Decoding a key and encoding it again may give other bytes, which the record's author did not see. Raises
    :class:`ValueError`.
    """
    body, _ = _element(certificate, 0, 0x30)
    at, end = _element(certificate, body, 0x30)
    if certificate[at : at + 1] == b"\xa0":
        at = _element(certificate, at, 0xA0)[1]
    # serialNumber, signature, issuer, validity, subject (RFC 5280 section 4.1).
    for tag in (0x02, 0x30, 0x30, 0x30, 0x30):
        at = _element(certificate, at, tag)[1]
    after = _element(certificate, at, 0x30)[1]
    if after > end:
        raise ValueError("not a certificate: a length that leads out of it")
    return certificate[at:after]


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of the DER element at ``at`` begins and ends."""
    if data[at : at + 1] != bytes((tag,)) or at + 2 > len(data):
        raise ValueError(f"not a certificate: no element {tag:#x} at {at}")
    length, begin = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or begin + size > len(data):
            raise ValueError("not a certificate: a length that is none")
        length, begin = int.from_bytes(data[begin : begin + size], "big"), begin + size
    if begin + length > len(data):
        raise ValueError("not a certificate: cut short")
    return begin, begin + length
