"""An OpenID provider's token endpoint on this machine: client credentials in, signed JSON Web Tokens out."""

from __future__ import annotations

import base64
import json
import ssl
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER, AUDIENCE, CLIENT, SECRET = "https://id.example", "kafka", "sluice", "s3cret"


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenEndpoint:
    """Answers at :attr:`url`; ``life`` is the seconds that tokens are valid for."""

    def __init__(self, context: ssl.SSLContext | None = None, life: int = 600) -> None:
        self._context = context
        self._key = rsa.generate_private_key(65537, 2048)
        self.life = life
        self.broken = False
        self.asked: list[dict[str, str]] = []
        """The forms of those who got a token."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    def write_keys(self, file: Path) -> None:
        """What a broker checks signatures with (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": "one",
            "n": _packed(numbers.n.to_bytes(size, "big")),
            "e": _packed(numbers.e.to_bytes(3, "big")),
        }
        file.write_text(json.dumps({"keys": [key]}))

    def token(self) -> str:
        """A token as it stands."""
        now = int(time.time())
        claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": CLIENT, "iat": now, "exp": now + self.life}
        head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        signed = ".".join(_packed(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_packed(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/token", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._context else 'http'}://127.0.0.1:{port}/token"

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if self.broken:
            return web.Response(status=503)
        form = {name: str(value) for name, value in (await request.post()).items()}
        known_by = base64.b64encode(f"{CLIENT}:{SECRET}".encode())
        if request.headers.get("Authorization") != f"Basic {known_by.decode()}":
            return web.json_response({"error": "invalid_client"}, status=401)
        self.asked.append(form)
        return web.json_response({"access_token": self.token(), "token_type": "Bearer", "expires_in": self.life})
