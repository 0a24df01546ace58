"""How settings become librdkafka's options; apart from the wiring, which costs a second to import."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from sluice.runtime.config import Settings
from sluice.runtime.kafka_certificate import client_certificate


def kafka_options(settings: Settings) -> dict[str, Any]:
    """librdkafka's options for reaching the cluster; raises :class:`RuleError` for a certificate that would not do."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": f"sluice-{settings.node}",
        "security.protocol": settings.kafka_security_protocol,
        # How soon partitions that were added are noticed.
        "topic.metadata.refresh.interval.ms": 10_000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= _sasl(settings)
    if settings.kafka_ssl_cafile:
        options["ssl.ca.location"] = str(settings.kafka_ssl_cafile)
    if client_certificate(settings) is not None:
        options["ssl.certificate.location"] = str(settings.kafka_ssl_certfile)
        options["ssl.key.location"] = str(settings.kafka_ssl_keyfile)
        if password := reveal(settings.kafka_ssl_key_password):
            options["ssl.key.password"] = password
    return options


def _sasl(settings: Settings) -> dict[str, Any]:
    if settings.kafka_sasl_mechanism != "OAUTHBEARER":
        return {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": reveal(settings.kafka_sasl_password),
        }
    options = {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": settings.kafka_oauth_token_url,
        "sasl.oauthbearer.client.id": settings.kafka_oauth_client_id,
        "sasl.oauthbearer.client.secret": reveal(settings.kafka_oauth_client_secret),
    }
    if settings.kafka_oauth_scope:
        options["sasl.oauthbearer.scope"] = settings.kafka_oauth_scope
    if settings.kafka_oauth_extensions:
        options["sasl.oauthbearer.extensions"] = settings.kafka_oauth_extensions
    if settings.kafka_oauth_cafile:
        options["https.ca.location"] = str(settings.kafka_oauth_cafile)
    return options


def reveal(secret: SecretStr | None) -> str:
    """The secret itself; empty when there is none."""
    return secret.get_secret_value() if secret is not None else ""
