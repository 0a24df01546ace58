"""TLS contexts for each policy, and which servers' STARTTLS is known to be broken."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable

from sluice.domain.smtp import TlsPolicy

_REMEMBERED = 10_000


class Contexts:
    """Makes the two TLS contexts once: loading the trusted certificates costs tens of milliseconds."""

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._trusting: ssl.SSLContext | None = None
        self._verifying: ssl.SSLContext | None = None

    def context(self, policy: TlsPolicy) -> ssl.SSLContext:
        """Checks certificate and host name for ``verified``; any other policy takes what it is shown (RFC 7435)."""
        if policy == "verified":
            if self._verifying is None:
                self._verifying = ssl.create_default_context(cafile=self._ca_file)
            return self._verifying
        if self._trusting is None:
            self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._trusting.check_hostname = False
            self._trusting.verify_mode = ssl.CERT_NONE
        return self._trusting


class BrokenTls:
    """Remembers for a while where the handshake failed, so that not every connection is made twice."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._until: OrderedDict[tuple[str, int], float] = OrderedDict()

    def __contains__(self, server: tuple[str, int]) -> bool:
        return self._until.get(server, 0.0) > self._now()

    def add(self, server: tuple[str, int]) -> None:
        """Remember a server; the one remembered longest is forgotten when there are too many."""
        self._until.pop(server, None)
        self._until[server] = self._now() + self._seconds
        if len(self._until) > _REMEMBERED:
            self._until.popitem(last=False)
