"""TLS contexts for each policy, and which servers failed at something."""

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
        """Checks certificate and host name for ``verified`` and ``mta_sts``; any other policy takes what it is shown.

        For those that may, that is RFC 7435; with ``dane`` the TLSA records tell afterwards, not the authorities.
        """
        if policy in ("verified", "mta_sts"):
            if self._verifying is None:
                self._verifying = ssl.create_default_context(cafile=self._ca_file)
            return self._verifying
        if self._trusting is None:
            self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._trusting.check_hostname = False
            self._trusting.verify_mode = ssl.CERT_NONE
        return self._trusting


class FailureMemory:
    """Remembers for a while with which servers something failed, and why, so that it is not tried each time."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._known: OrderedDict[tuple[str, int], tuple[float, str]] = OrderedDict()

    def __contains__(self, server: tuple[str, int]) -> bool:
        return self.detail(server) is not None

    def detail(self, server: tuple[str, int]) -> str | None:
        """What was wrong; None when nothing is remembered."""
        until, detail = self._known.get(server, (0.0, ""))
        return detail if until > self._now() else None

    def add(self, server: tuple[str, int], detail: str) -> None:
        """Remember a server; the one remembered longest is forgotten when there are too many."""
        self._known.pop(server, None)
        self._known[server] = (self._now() + self._seconds, detail)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
