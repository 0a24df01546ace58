"""Tokens for SASL's OAUTHBEARER mechanism (RFC 7628), asked of an OpenID provider with the client's own credentials."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable

import aiohttp
import msgspec
import structlog
from aiokafka.abc import AbstractTokenProvider  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]

from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)
ASK_S = 10.0
"""Seconds that the token endpoint may take."""
USED = 0.8
"""The part of a token's life after which the next one is asked for, as librdkafka has it."""
UNTOLD_S = 300.0
"""Seconds that a token is used of which nobody says how long it is valid."""


class OAuth(msgspec.Struct, frozen=True):
    """Where tokens come from, and who asks. ``cafile`` has the authorities that sign the endpoint's certificate, None
    for the system's; ``extensions`` are SASL extensions that some brokers ask for."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    extensions: dict[str, str] = {}
    cafile: str | None = None


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """What aiokafka asks before it authenticates a connection. A token is used until most of its life is over."""

    def __init__(self, oauth: OAuth, now: Callable[[], float] = time.time) -> None:
        """``now`` is in seconds since the epoch."""
        self._oauth = oauth
        self._now = now
        self._lock: asyncio.Lock | None = None
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0

    def extensions(self) -> dict[str, str]:
        """See the base class."""
        return self._oauth.extensions

    async def token(self) -> str:
        """A valid token; raises :class:`KafkaConnectionError` when there is none to be had: it is asked again later."""
        # Made here: Faust's client runs in a thread and loop of its own.
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._now() >= self._renew_at:
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        asked_at = self._now()
        try:
            answer = await self._ask()
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            # The endpoint's answers may hold secrets, and are not told.
            why = f"HTTP {error.status}" if isinstance(error, aiohttp.ClientResponseError) else type(error).__name__
            log.error("kafka.token_not_had", url=self._oauth.token_url, why=why)
            if asked_at < self._ends_at:
                return
            raise KafkaConnectionError(f"no token from {self._oauth.token_url}: {why}") from error
        self._token = answer.access_token
        self._ends_at = asked_at + (answer.expires_in or _life(answer.access_token, asked_at))
        self._renew_at = asked_at + USED * (self._ends_at - asked_at)

    async def _ask(self) -> _Answer:
        oauth = self._oauth
        form = {"grant_type": "client_credentials", **({"scope": oauth.scope} if oauth.scope else {})}
        # Not encoded for forms first, as RFC 6749 has it: neither do Kafka's own clients.
        known_by = base64.b64encode(f"{oauth.client_id}:{oauth.client_secret}".encode())
        context = ssl.create_default_context(cafile=oauth.cafile)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S), trust_env=True) as session,
            session.post(
                oauth.token_url,
                data=form,
                headers={"Authorization": f"Basic {known_by.decode()}"},
                ssl=context,
                raise_for_status=True,
                allow_redirects=False,
            ) as response,
        ):
            return msgspec.json.decode(await response.read(), type=_Answer)


async def ask_once(oauth: OAuth) -> None:
    """Whether a token is to be had; raises :class:`SluiceError` that says why not."""
    try:
        await TokenProvider(oauth).token()
    except KafkaConnectionError as error:
        raise SluiceError(str(error.args[0])) from error


def _life(token: str, now: float) -> float:
    """Seconds that a JSON Web Token says it is valid for; a guess for one that does not."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return max(0.0, float(claims["exp"]) - now)
    except (LookupError, ValueError, TypeError):
        return UNTOLD_S
