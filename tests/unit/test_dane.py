"""TLSA records: what can be used, and what they match."""

from __future__ import annotations

import datetime as dt
import hashlib
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.dane import Tlsa, matches, public_key, usable

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .sign(key, algorithm)
    )


CERTIFICATES = [
    certificate(rsa.generate_private_key(65537, 2048)),
    certificate(ec.generate_private_key(ec.SECP256R1())),
    certificate(ed25519.Ed25519PrivateKey.generate()),
]
DIGESTS = {0: lambda data: data, 1: lambda data: hashlib.sha256(data).digest(), 2: lambda d: hashlib.sha512(d).digest()}


@pytest.mark.parametrize("shown", CERTIFICATES)
def test_the_public_key_is_found_as_it_stands(shown: x509.Certificate) -> None:
    expected = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key(shown.public_bytes(Encoding.DER)) == expected


@pytest.mark.parametrize(("usage", "selector", "matching"), list(product((2, 3), (0, 1), (0, 1, 2))))
def test_a_record_matches_its_certificate_and_no_other(usage: int, selector: int, matching: int) -> None:
    own, other = (shown.public_bytes(Encoding.DER) for shown in CERTIFICATES[:2])
    selected = public_key(own) if selector else own
    record = Tlsa(usage, selector, matching, DIGESTS[matching](selected))
    assert usable([record]) == (record,)
    assert matches(record, own)
    assert not matches(record, other)


@pytest.mark.parametrize(
    "record",
    [
        Tlsa(0, 1, 1, b"x" * 32),  # PKIX-TA and PKIX-EE say nothing to SMTP: RFC 7672 section 3.1.3
        Tlsa(1, 1, 1, b"x" * 32),
        Tlsa(255, 1, 1, b"x" * 32),
        Tlsa(3, 2, 1, b"x" * 32),
        Tlsa(3, 1, 3, b"x" * 32),
        Tlsa(3, 1, 1, b"x" * 31),
        Tlsa(3, 1, 2, b"x" * 32),
        Tlsa(3, 1, 0, b""),
    ],
)
def test_records_that_cannot_be_understood_are_not_usable(record: Tlsa) -> None:
    assert usable([record]) == ()


def test_only_the_strongest_digest_counts() -> None:
    weak, strong = Tlsa(3, 1, 1, b"x" * 32), Tlsa(3, 1, 2, b"x" * 64)
    whole, of_authority = Tlsa(3, 1, 0, b"key"), Tlsa(2, 1, 1, b"y" * 32)
    assert set(usable([weak, strong, whole, of_authority, weak])) == {strong, whole, of_authority}


@given(st.binary(max_size=80))
def test_garbage_matches_no_key_and_breaks_nothing(data: bytes) -> None:
    assert not matches(Tlsa(3, 1, 1, b"x" * 32), data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_certificate_is_none_or_has_another_key(at: int, value: int) -> None:
    good = CERTIFICATES[1].public_bytes(Encoding.DER)
    damaged = bytearray(good)
    damaged[at % len(good)] = value
    try:
        found = public_key(bytes(damaged))
    except ValueError:
        return
    assert found in bytes(damaged)


@given(st.integers(0, 1_000))
def test_a_certificate_cut_short_is_none(length: int) -> None:
    good = CERTIFICATES[1].public_bytes(Encoding.DER)
    with pytest.raises(ValueError, match="not a certificate"):
        public_key(good[: length % len(good)])
