"""What a server offers in its reply to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import msgspec
from aiosmtplib.esmtp import parse_esmtp_extensions

from sluice.adapters.smtp.reply import Reply


class Capabilities(msgspec.Struct, frozen=True):
    """The extensions that Sluice makes use of."""

    pipelining: bool = False
    eight_bit: bool = False
    chunking: bool = False
    """BDAT (RFC 3030)."""
    smtputf8: bool = False
    starttls: bool = False
    size: bool = False
    size_limit: int | None = None
    """Octets (RFC 1870); None when there is no fixed limit."""
    auth: frozenset[str] = frozenset()
    """Authentication mechanisms, lower case."""


def read_capabilities(reply: Reply) -> Capabilities:
    """Read a positive reply to EHLO. A malformed SIZE counts as one without a limit."""
    offered, auth = parse_esmtp_extensions("\n".join(reply.lines))
    size = offered.get("size", "").strip()
    limit = int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0
    return Capabilities(
        pipelining="pipelining" in offered,
        eight_bit="8bitmime" in offered,
        chunking="chunking" in offered,
        smtputf8="smtputf8" in offered,
        starttls="starttls" in offered,
        size="size" in offered,
        size_limit=limit or None,
        auth=frozenset(auth),
    )
