"""The certificate that Kafka knows us by: looked at before a broker refuses it in words that help nobody."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from sluice.domain.errors import RuleError
from sluice.runtime.config import Settings


class ClientCertificate(msgspec.Struct, frozen=True):
    """Whose it is, and when it ends."""

    subject: str
    ends_at: datetime


def client_certificate(settings: Settings, now: datetime | None = None) -> ClientCertificate | None:
    """The certificate of ``SLUICE_KAFKA_SSL_CERTFILE``, None when there is none.

    Raises :class:`RuleError` when it or its key cannot be read, they do not belong together, or it is not valid now.
    """
    if settings.kafka_ssl_certfile is None or settings.kafka_ssl_keyfile is None:
        return None
    # Imported here: most have none, and this costs a tenth of a second.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    password = settings.kafka_ssl_key_password
    try:
        certificate = x509.load_pem_x509_certificates(settings.kafka_ssl_certfile.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise RuleError(f"SLUICE_KAFKA_SSL_CERTFILE: {settings.kafka_ssl_certfile}: {_why(error)}") from error
    try:
        secret = password.get_secret_value().encode() if password and password.get_secret_value() else None
        key = load_pem_private_key(settings.kafka_ssl_keyfile.read_bytes(), secret)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "; is SLUICE_KAFKA_SSL_KEY_PASSWORD right?" if not isinstance(error, OSError) else ""
        raise RuleError(f"SLUICE_KAFKA_SSL_KEYFILE: {settings.kafka_ssl_keyfile}: {_why(error)}{hint}") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise RuleError(
            f"SLUICE_KAFKA_SSL_KEYFILE: {settings.kafka_ssl_keyfile} is not the key of the first certificate in "
            f"{settings.kafka_ssl_certfile}"
        )
    now = now or datetime.now(UTC)
    begins_at, ends_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends_at <= now:
        raise RuleError(f"SLUICE_KAFKA_SSL_CERTFILE: {settings.kafka_ssl_certfile} expired on {ends_at:%Y-%m-%d %H:%M}")
    if begins_at > now:
        raise RuleError(
            f"SLUICE_KAFKA_SSL_CERTFILE: {settings.kafka_ssl_certfile} is not valid before {begins_at:%Y-%m-%d %H:%M}; "
            "is this machine's clock right?"
        )
    return ClientCertificate(certificate.subject.rfc4514_string() or "without a subject", ends_at)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition(".")[0] or type(error).__name__
