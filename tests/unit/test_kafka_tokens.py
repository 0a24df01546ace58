"""Tokens for Kafka are asked for when they are needed, used for most of their lives, and never told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError
from tests.support.token_endpoint import CLIENT, SECRET, TokenEndpoint

from sluice.adapters.kafka.oauth import OAuth, TokenProvider
from sluice.commands.doctor_kafka import look_at_kafka
from sluice.commands.findings import Finding
from sluice.runtime.config import load_settings


class Time:
    """Moves when it is told to."""

    at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    made = TokenEndpoint()
    await made.start()
    yield made
    await made.stop()


def provider(endpoint: TokenEndpoint, now: Time, secret: str = SECRET) -> TokenProvider:
    return TokenProvider(OAuth(endpoint.url, CLIENT, secret, "mail", {"pool": "one"}), now)


async def test_a_token_is_used_until_four_fifths_of_its_life_are_over(endpoint: TokenEndpoint) -> None:
    now = Time()
    tokens = provider(endpoint, now)
    first = await tokens.token()
    assert first.count(".") == 2
    now.at += 479
    assert await tokens.token() == first
    now.at += 2
    await tokens.token()
    assert endpoint.asked == [{"grant_type": "client_credentials", "scope": "mail"}] * 2
    assert tokens.extensions() == {"pool": "one"}


async def test_a_valid_token_is_used_on_while_the_endpoint_is_away(endpoint: TokenEndpoint) -> None:
    """And when it has ended, Kafka's client is told in words that it tries again after."""
    now = Time()
    tokens = provider(endpoint, now)
    first = await tokens.token()
    endpoint.broken = True
    now.at += 500
    assert await tokens.token() == first
    now.at += 101
    with pytest.raises(KafkaConnectionError, match="HTTP 503"):
        await tokens.token()
    endpoint.broken = False
    await tokens.token()


async def test_a_refusal_tells_no_secret(endpoint: TokenEndpoint) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(KafkaConnectionError, match="HTTP 401") as error:
        await provider(endpoint, Time(), "wr0ng").token()
    assert "wr0ng" not in repr(logs) + repr(error.value)
    assert logs[0]["event"] == "kafka.token_not_had"


@pytest.mark.parametrize(("secret", "state", "words"), [(SECRET, "ok", "given by"), ("wr0ng", "fail", "HTTP 401")])
async def test_the_doctor_asks_for_a_token_before_it_asks_kafka(
    endpoint: TokenEndpoint, secret: str, state: str, words: str
) -> None:
    """Kafka's client would only say that nobody answered."""
    settings = load_settings(
        kafka_bootstrap="127.0.0.1:1",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_oauth_token_url=endpoint.url,
        kafka_oauth_client_id=CLIENT,
        kafka_oauth_client_secret=secret,
    )

    def look() -> Finding:
        return next(look_at_kafka(settings))

    found = await asyncio.to_thread(look)
    assert (found.check, found.state) == ("Kafka token", state)
    assert words in found.detail
