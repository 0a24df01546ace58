"""New DKIM keys for a domain, and the DNS records that publish them."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sluice.domain.addresses import domain_to_ascii
from sluice.domain.reference import SigningKey

RSA_BITS = 2048


class GeneratedKey(msgspec.Struct, frozen=True):
    """A key that was written: what a tenant's ``signing`` names, and the TXT record that publishes its public half."""

    key: SigningKey
    path: Path
    record_name: str
    """``selector._domainkey.domain``"""
    record_value: str
    """The record's text in one piece; :meth:`zone_line` splits it as zone files need it."""

    def zone_line(self) -> str:
        """The record as a line of a zone file, in strings of at most 255 octets (RFC 1035)."""
        value = self.record_value
        strings = " ".join(f'"{value[start : start + 255]}"' for start in range(0, len(value), 255))
        return f"{self.record_name}. IN TXT ( {strings} )"


def generate_keys(folder: Path, domain: str, *, rsa_selector: str, ed25519_selector: str) -> list[GeneratedKey]:
    """Make an RSA-2048 and an Ed25519 key and write them to ``folder/domain/selector.pem``, readable by the owner only.

    Raises :class:`FileExistsError` when a selector is in use: published keys must not be overwritten. Raises
    :class:`ValueError` when ``domain`` is not one.
    """
    ascii_domain, problem = domain_to_ascii(domain)
    if problem:
        raise ValueError(problem)
    rsa = generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    ed25519 = Ed25519PrivateKey.generate()
    made = (
        (rsa_selector, rsa, "rsa", rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        # RFC 8463 section 4.2 publishes the 32 octets themselves, without ASN.1 around them.
        (ed25519_selector, ed25519, "ed25519", ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
    )
    keys = []
    for selector, private, kind, public in made:
        path = folder / ascii_domain / f"{selector}.pem"
        _write(path, private)
        keys.append(
            GeneratedKey(
                SigningKey(ascii_domain, selector),
                path,
                f"{selector}._domainkey.{ascii_domain}",
                f"v=DKIM1; k={kind}; p={b64encode(public).decode('ascii')}",
            )
        )
    return keys


def _write(path: Path, private: RSAPrivateKey | Ed25519PrivateKey) -> None:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
