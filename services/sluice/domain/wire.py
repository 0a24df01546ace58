"""What may go over an SMTP connection, and in which bytes."""

from __future__ import annotations

import re

from sluice.domain.smtp import Broken

_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_PLAIN = r"[^\s<>\x00-\x1f\x7f\"\\]+"
_PATH = re.compile(rf"(?:{_QUOTED}|{_PLAIN})@[^\s<>\x00-\x1f\x7f]+")


def bare_line_end(content: bytes) -> bool:
    """Whether a CR or LF stands alone.

    Such content must not be sent: servers differ in what they take for the end of the mail, which lets a second mail be
    smuggled in (CVE-2023-51764), and repairing it would break the signature.
    """
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs


def misfit(mail_from: str, rcpt_to: str, content: bytes) -> Broken | None:
    """Why no server may be given this, whatever it offers; None when there is no reason. An empty sender is fine."""
    if mail_from and not sendable_path(mail_from):
        return Broken("mail", "unsupported", "the sender's address cannot stand in a command")
    if not sendable_path(rcpt_to):
        return Broken("rcpt", "unsupported", "the recipient's address cannot stand in a command")
    if bare_line_end(content):
        return Broken("data", "unsupported", "the content holds a bare CR or LF")
    return None


def dot_stuffed(content: bytes) -> bytes:
    """The bytes that follow a 354 reply (RFC 5321 section 4.5.2): leading dots doubled, then the final dot.

    ``content`` has CRLF line ends only. Every byte of it is kept; a missing last CRLF is added, because the final dot
    must begin a line.
    """
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"


def bdat(content: bytes) -> bytes:
    """A mail's only chunk, with the command before it (RFC 3030 section 2): nothing is stuffed, and no dot ends it.

    ``content`` is as for :func:`dot_stuffed`, and what the receiver gets is the same.
    """
    end = b"\r\n" if content and not content.endswith(b"\r\n") else b""
    return b"BDAT %d LAST\r\n%b%b" % (len(content) + len(end), content, end)


def sendable_path(address: str) -> bool:
    """Whether an address can stand between ``<`` and ``>`` without ending the path or the command early."""
    return _PATH.fullmatch(address) is not None
