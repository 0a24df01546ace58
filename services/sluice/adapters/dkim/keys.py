"""Private keys from files."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sluice.domain.addresses import domain_to_ascii
from sluice.domain.reference import SigningKey
from sluice.domain.signing import Algorithm, Sign
from sluice.ports.signer import SigningKeyMissing

MIN_RSA_BITS = 1024
"""Verifiers ignore signatures by shorter keys (RFC 8301 section 3.2)."""

_selector = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE
)


class LoadedKey(msgspec.Struct, frozen=True):
    """A private key ready for use, with the names that go into a signature."""

    domain: str
    selector: str
    algorithm: Algorithm
    sign: Sign


class KeyFolder:
    """Reads ``folder/domain/selector.pem`` (PKCS #8 or PKCS #1, RSA or Ed25519, not encrypted) on first use.

    A key that was read stays in memory: to replace one, use a new selector, as rotation needs anyway. A key that was
    missing is looked for again every time, so adding the file is enough.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[SigningKey, LoadedKey] = {}

    def get(self, key: SigningKey) -> LoadedKey:
        """The key; raises :class:`SigningKeyMissing`."""
        loaded = self._loaded.get(key)
        if loaded is None:
            loaded = self._loaded[key] = self._load(key)
        return loaded

    def _load(self, key: SigningKey) -> LoadedKey:
        # The names come from reference data and become a path and a header field.
        domain, problem = domain_to_ascii(key.domain)
        if problem or not _selector.fullmatch(key.selector):
            raise SigningKeyMissing(key, "the domain or the selector is not a DNS name; correct the tenant's signing")
        path = self._folder / domain / f"{key.selector}.pem"
        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            reason = f"cannot read {domain}/{key.selector}.pem in the key folder ({error.strerror}); put the key there"
            raise SigningKeyMissing(key, reason) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningKeyMissing(key, "the file is not an unencrypted private key in PEM") from error
        if isinstance(private, RSAPrivateKey):
            if private.key_size < MIN_RSA_BITS:
                raise SigningKeyMissing(key, f"RSA of {private.key_size} bits; make one of 2048")
            return LoadedKey(domain, key.selector, "rsa-sha256", _rsa(private))
        if isinstance(private, Ed25519PrivateKey):
            return LoadedKey(domain, key.selector, "ed25519-sha256", private.sign)
        raise SigningKeyMissing(key, "the key is neither RSA nor Ed25519; DKIM knows no other")


def _rsa(private: RSAPrivateKey) -> Sign:
    padding, algorithm = PKCS1v15(), SHA256()

    def sign(octets: bytes) -> bytes:
        return private.sign(octets, padding, algorithm)

    return sign
