"""Handing a report to the URL that its domain names (RFC 8460 section 5.4)."""

from __future__ import annotations

import ssl

import aiohttp
from aiohttp.abc import AbstractResolver

from sluice.domain.errors import SluiceError


class PostFailed(SluiceError):
    """The receiving site's fault, or the network's: trying again later is the thing to do."""


class ReportPoster:
    """Posts reports, one connection each. Belongs to the event loop that uses it.

    A domain names the server, so whoever can be sent mail to could aim us at our own network: what ``addresses`` gives
    for a host's name is all that is connected to, and URLs with an address in place of a name are no endpoints
    (:mod:`sluice.domain.tlsrpt_record`). ``timeout`` in seconds bounds a POST as a whole. ``ca_file`` is a PEM file
    with the authorities to trust; None takes the system's.
    """

    def __init__(self, addresses: AbstractResolver, *, timeout: float = 60.0, ca_file: str | None = None) -> None:
        self._addresses = addresses
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._ca_file = ca_file

    async def post(self, url: str, report: bytes, media_type: str) -> None:
        """Returns when the server has taken the report. Raises :class:`PostFailed` for all else, redirects too."""
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cafile=self._ca_file),
            resolver=self._addresses,
            use_dns_cache=False,
            force_close=True,
        )
        session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        try:
            async with (
                session,
                session.post(url, data=report, headers={"Content-Type": media_type}, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    raise PostFailed(f"the server answered {response.status}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise PostFailed(str(error) or type(error).__name__) from error
