"""Signing mail."""

from collections.abc import Sequence
from typing import Protocol

from sluice.domain.errors import SluiceError
from sluice.domain.reference import SigningKey


class Signer(Protocol):
    """Holds private keys and signs with them."""

    def sign(self, content: bytes, keys: Sequence[SigningKey], *, now: float) -> bytes:
        """The message with one DKIM-Signature field for each of ``keys`` put before it; unchanged without keys.

        ``content`` is RFC 5322 octets with CRLF line ends; ``now`` is seconds since the epoch. Raises
        :class:`SigningKeyMissing`.
        """
        ...


class SigningKeyMissing(SluiceError):
    """The operator's fault: a key that a tenant signs with is not in the key folder, or cannot be used.

    The mail is as it should be and can be signed when the key is there.
    """

    def __init__(self, key: SigningKey, reason: str) -> None:
        super().__init__(f"DKIM key {key.selector}._domainkey.{key.domain}: {reason}")
        self.key = key
        self.reason = reason
