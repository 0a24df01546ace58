"""What an SMTP conversation can end in, as values (RFC 5321)."""

from __future__ import annotations

from typing import Literal

import msgspec

Phase = Literal["resolve", "connect", "banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "dot", "rset"]
"""Where in the conversation something happened. ``dot`` is after the content's final dot was written."""

SettableTls = Literal["none", "opportunistic", "required", "verified"]
"""What an operator can ask for: nothing, TLS where offered, TLS with any certificate, with one for the host's name."""

TlsPolicy = Literal["none", "opportunistic", "required", "verified", "mta_sts", "dane"]
"""What a connection is held to: the operator's choice, or more because the recipient's domain asks for it."""


class Tls(msgspec.Struct, frozen=True):
    """The protection a connection had: protocol version (``TLSv1.3``), cipher name, and the policy asked for.

    ``failure`` is what an MTA-STS policy in testing would have refused the connection for, or why a server that offers
    TLS was spoken to without.
    """

    policy: TlsPolicy
    version: str | None = None
    cipher: str | None = None
    failure: str | None = None


class Replied(msgspec.Struct, frozen=True):
    """The server answered: final for this attempt, good or bad.

    ``code`` is the three-digit reply, ``enhanced`` the RFC 3463 status (``5.1.1``) when present, ``text`` the reply's
    text joined over its lines and cut to 1,000 characters.
    """

    phase: Phase
    code: int
    text: str
    enhanced: str | None = None

    @property
    def accepted(self) -> bool:
        """The receiving server took responsibility for the mail."""
        return self.phase == "dot" and 200 <= self.code < 300


class Broken(msgspec.Struct, frozen=True):
    """No usable reply, and the final dot was not written: the mail was certainly not taken.

    ``reason`` is a short stable word: ``refused``, ``timeout``, ``disconnected``, ``garbage``, ``tls``, ``dns``,
    ``unsupported``.
    """

    phase: Phase
    reason: str
    detail: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """The final dot was written and no reply came: the server may or may not have the mail."""

    reason: str
    detail: str = ""


Result = Replied | Broken | Unknown
