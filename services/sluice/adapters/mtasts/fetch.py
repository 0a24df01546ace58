"""Fetching one MTA-STS policy (RFC 8461 section 3.3)."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from sluice.domain.errors import Undecodable
from sluice.domain.mta_sts import StsPolicy, StsResult, parse_policy
from sluice.domain.routing import usable_addresses
from sluice.ports.resolver import LookupFailed, Texts

LARGEST = 64 * 1024
"""Octets: the largest policy that is read."""
_CONNECT = 15.0
_AT_ONCE = 20


class FetchFailed(Exception):
    """The domain has no policy that could be fetched; the text says why, and ``result`` what kind of failure it is."""

    def __init__(self, reason: str, result: StsResult = "sts-policy-fetch-error") -> None:
        super().__init__(reason)
        self.result: StsResult = result


class PolicyFetcher:
    """Fetches policies from ``https://mta-sts.DOMAIN/.well-known/mta-sts.txt``.

    The domain names the server, so whoever can be sent mail to could aim us at our own network: only public addresses
    are connected to, unless ``private``, and they are looked up through ``resolver`` once for each fetch, so that what
    was checked is what is used. ``timeout`` in seconds bounds a fetch as a whole. ``ca_file`` is a PEM file with the
    authorities to trust; None takes the system's. Belongs to the event loop that first uses it.
    """

    def __init__(
        self,
        resolver: Texts,
        *,
        private: bool = False,
        port: int = 443,
        timeout: float = 60.0,
        ca_file: str | None = None,
    ) -> None:
        self._addresses = PublicAddresses(resolver, private=private)
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT))
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, domain: str) -> StsPolicy:
        """The policy of ``domain`` (A-label form). Raises :class:`FetchFailed` when it cannot be had, or is none."""
        try:
            text = await self._get(f"https://mta-sts.{domain}:{self._port}/.well-known/mta-sts.txt")
            return parse_policy(text)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise FetchFailed(str(error), "sts-webpki-invalid") from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise FetchFailed(str(error) or type(error).__name__) from error
        except Undecodable as error:
            raise FetchFailed(f"not a policy: {error}", "sts-policy-invalid") from error

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, url: str) -> str:
        headers = {"Accept-Encoding": "identity"}
        async with self._opened().get(url, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                raise FetchFailed(f"status {response.status}")
            if response.content_type != "text/plain":
                raise FetchFailed(f"content type {response.content_type}")
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LARGEST:
                    raise FetchFailed(f"larger than {LARGEST} octets")
        return body.decode()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cafile=self._ca_file),
                resolver=self._addresses,
                use_dns_cache=False,
                force_close=True,
                limit=_AT_ONCE,
            )
            # A body that unpacks to more than it weighs is not unpacked, and cookies and proxies have no part in this.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class PublicAddresses(AbstractResolver):
    """aiohttp's way to addresses, through ours: public ones only, unless ``private``."""

    def __init__(self, resolver: Texts, *, private: bool) -> None:
        self._resolver = resolver
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.addresses(host)
        if isinstance(found, LookupFailed):
            _refuse(f"DNS: {found.reason}")
        usable = usable_addresses(found, private=self._private)
        if not usable:
            _refuse("its addresses are not public" if found else "it has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in usable
        ]

    async def close(self) -> None:
        await asyncio.sleep(0)


def _refuse(reason: str) -> NoReturn:
    raise OSError(errno.EADDRNOTAVAIL, reason)
