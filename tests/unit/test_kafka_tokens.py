"""Tokens for Kafka are asked for when they are needed, used for most of their lives, and never told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError
from tests.support.token_endpoint import CLIENT, SECRET, TokenEndpoint

from sluice.adapters.kafka.oauth import OAuth, TokenProvider


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
