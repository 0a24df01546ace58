"""Verifying DKIM signatures with dkimpy, the DNS played by the key files."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


def verified_selectors(content: bytes, keys: Path) -> set[str]:
    """Selectors of the signatures that verify, by the private keys in ``keys/DOMAIN/SELECTOR.pem``."""

    def txt(name: bytes, timeout: int = 5) -> bytes:
        selector, _, domain = name.decode().rstrip(".").partition("._domainkey.")
        return _record(keys / domain / f"{selector}.pem")

    checker = dkim.DKIM(content)
    fields = [value for name, value in checker.headers if name.lower() == b"dkim-signature"]
    good = set()
    for index, value in enumerate(fields):
        if dkim.DKIM(content).verify(idx=index, dnsfunc=txt):
            good.add(dkim.util.parse_tag_value(value)[b"s"].decode())
    return good


def _record(pem: Path) -> bytes:
    public = load_pem_private_key(pem.read_bytes(), None).public_key()
    if isinstance(load_pem_private_key(pem.read_bytes(), None), RSAPrivateKey):
        kind, raw = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        kind, raw = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k={kind}; p={b64encode(raw).decode()}".encode()
