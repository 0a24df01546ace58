"""The key that all systems sign with, and the proof that they did: a few mails of each are kept and verified."""

from __future__ import annotations

import time
from base64 import b64encode
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import msgspec
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sluice.domain.errors import SluiceError


class NotAsPromised(SluiceError):
    """A system did not deliver what is compared: a signed mail."""


class SigningKey(msgspec.Struct, frozen=True):
    """An RSA key of 2048 bits, as PEM."""

    domain: str
    selector: str
    pem: bytes

    def write(self, path: Path) -> None:
        """For its owner only."""
        path.touch(mode=0o600)
        path.write_bytes(self.pem)

    @property
    def record(self) -> bytes:
        """The TXT record that publishes it."""
        private = load_pem_private_key(self.pem, None)
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return b"v=DKIM1; k=rsa; p=" + b64encode(public)


def new_key(domain: str, selector: str) -> SigningKey:
    """Make one."""
    private: RSAPrivateKey = generate_private_key(public_exponent=65_537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return SigningKey(domain, selector, pem)


class Keeper:
    """A receiver that keeps the mails; use as a context manager."""

    def __init__(self, port: int) -> None:
        self.mails: list[bytes] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=port)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Called by aiosmtpd."""
        content = envelope.original_content or b""
        self.mails.append(content)
        return "250 2.0.0 Kept"

    def __enter__(self) -> Keeper:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def wait_for(self, count: int, patience: float = 30.0) -> None:
        """Return when ``count`` mails are here. Raises :class:`NotAsPromised`."""
        until = time.monotonic() + patience
        while len(self.mails) < count:
            if time.monotonic() > until:
                raise NotAsPromised(f"only {len(self.mails)} of the first {count} mails arrived in {patience:g} s")
            time.sleep(0.05)


def mean_signed_size(mails: list[bytes], key: SigningKey) -> float:
    """Octets of a mail on average. Raises :class:`NotAsPromised` unless every one verifies by ``key``."""

    def record(name: bytes, timeout: float = 5) -> bytes | None:
        return key.record if name.startswith(f"{key.selector}._domainkey.{key.domain}".encode()) else None

    for mail in mails:
        if not dkim.verify(mail, dnsfunc=record):
            raise NotAsPromised("a mail carries no DKIM signature that verifies")
    return sum(map(len, mails)) / len(mails)
