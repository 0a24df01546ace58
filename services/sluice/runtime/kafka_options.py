"""How settings become librdkafka's options; apart from the wiring, which costs a second to import."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from sluice.runtime.config import Settings


def kafka_options(settings: Settings) -> dict[str, Any]:
    """librdkafka's options for reaching the cluster."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": f"sluice-{settings.node}",
        "security.protocol": settings.kafka_security_protocol,
        # How soon partitions that were added are noticed.
        "topic.metadata.refresh.interval.ms": 10_000,
    }
    if settings.kafka_sasl_mechanism:
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_sasl_username
        options["sasl.password"] = reveal(settings.kafka_sasl_password)
    if settings.kafka_ssl_cafile:
        options["ssl.ca.location"] = str(settings.kafka_ssl_cafile)
    return options


def reveal(secret: SecretStr | None) -> str:
    """The secret itself; empty when there is none."""
    return secret.get_secret_value() if secret is not None else ""
