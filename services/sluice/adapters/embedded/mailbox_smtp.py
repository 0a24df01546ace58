"""The SMTP side of the mailbox: aiosmtpd's protocol, with reading of content made fast, and misbehaving on request."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from typing import Any

import msgspec
import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session, syntax

from sluice.adapters.embedded.mailbox_behaviour import Behaviour, Behaviours
from sluice.adapters.embedded.mailbox_store import Received, Store, message_id

log = structlog.get_logger(__name__)

LARGEST_MAIL = 40 * 1024 * 1024
ADDRESS = re.compile(r'\s*<([^<>\s"@]+@[^<>\s"@]+)>\s*(.*)', re.DOTALL)
CRLF = b"\r\n"
DOT = b".\r\n"

# aiosmtpd logs addresses and every command.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class Stats(msgspec.Struct):
    """What happened since the server started."""

    connections: int = 0
    accepted: int = 0
    """Mails taken with a 250."""
    refused: int = 0
    """Commands or mails answered with 4xx or 5xx on request."""
    silent: int = 0
    """Connections closed, or left without a reply, on request."""


class Desk:
    """What all connections share: the store, the rules, the numbers, and the hooks aiosmtpd calls."""

    def __init__(self, store: Store, behaviours: Behaviours) -> None:
        self.store = store
        self.behaviours = behaviours
        self.stats = Stats()
        self.open: set[Conversation] = set()
        self.empty = asyncio.Event()

    async def handle_EHLO(  # noqa: N802 -- the name aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Answer EHLO; there is nobody to authenticate."""
        session.host_name = hostname
        offered = [line for line in responses if not line.startswith("250-AUTH")]
        return [*offered[:1], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", *offered[1:]]

    async def handle_MAIL(  # noqa: N802
        self, server: Conversation, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer MAIL FROM."""
        rule = self.behaviours.decide("mail", ("",))
        reply = await server.perform(rule, "250 2.1.0 Sender ok")
        if reply[0] == "2":
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return reply

    async def handle_RCPT(  # noqa: N802
        self, server: Conversation, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        if "@" not in address:
            return "553 5.1.3 A recipient has a domain"
        reply = await server.perform(self.behaviours.decide("rcpt", (address,)), "250 2.1.5 Recipient ok")
        if reply[0] == "2":
            envelope.rcpt_tos.append(address)
        return reply

    def keep(self, server: Conversation, content: bytes, dot_ns: int, *, silent: bool) -> str:
        """Store a mail and its line in the index; return the reply that takes it."""
        envelope, session = server.envelope, server.session
        assert envelope is not None  # noqa: S101
        assert session is not None  # noqa: S101
        file = self.store.put(content, envelope.rcpt_tos[0], dot_ns)
        self.store.add(
            Received(
                file=file,
                rfc5322_message_id=message_id(content),
                mail_from="" if envelope.mail_from in (None, "<>") else envelope.mail_from,
                rcpt_to=envelope.rcpt_tos,
                peer=_peer(session.peer),
                size=len(content),
                dot_at=dot_ns / 1e9,
                replied_at=None if silent else time.time(),
                tls=_tls_version(session.ssl),
            )
        )
        if not silent:
            self.stats.accepted += 1
        return f"250 2.0.0 Kept as {file.rpartition('/')[2].removesuffix('.eml')}"


class Conversation(SMTP):
    """One connection."""

    # Bounds how much is read ahead; a mail may be larger and its lines longer.
    line_length_limit = 64 * 1024

    def __init__(self, desk: Desk, **options: Any) -> None:
        super().__init__(desk, data_size_limit=LARGEST_MAIL, enable_SMTPUTF8=True, **options)
        self._desk = desk

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; STARTTLS calls this a second time."""
        if self.transport is None:
            self._desk.stats.connections += 1
        self._desk.open.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._desk.open.discard(self)
        if not self._desk.open:
            self._desk.empty.set()
        super().connection_lost(error)

    async def perform(self, rule: Behaviour | None, usual: str) -> str:
        """Wait, and return the reply to send; or close or fall silent, and never return."""
        if rule is None:
            return usual
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.action != "reply":
            await self.vanish(close=rule.action == "disconnect")
        reply = rule.reply or usual
        if reply[0] != "2":
            self._desk.stats.refused += 1
        if reply.startswith("421"):
            # RFC 5321 section 3.8: the channel closes with it.
            await self.push(reply)
            await self.vanish(close=True)
        return reply

    async def vanish(self, *, close: bool) -> None:
        """Say nothing more on this connection; ends by cancellation when the connection does."""
        self._desk.stats.silent += 1
        if close and self.transport is not None:
            self.transport.close()
        await asyncio.get_running_loop().create_future()

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 -- the name aiosmtpd calls
        """Take a mail's content. aiosmtpd's own reads it line by line, which takes most of the time a mail takes."""
        if await self.check_helo_needed():
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        envelope = self.envelope
        if envelope is None or not envelope.rcpt_tos:
            await self.push("503 5.5.1 No valid recipients")
            return
        reply = await self.perform(self._desk.behaviours.decide("data", envelope.rcpt_tos), "354 Go ahead")
        await self.push(reply)
        if not reply.startswith("354"):
            return
        content = await self._read_content()
        dot_ns = time.time_ns()
        if content is None:
            reply = f"552 5.3.4 Larger than {LARGEST_MAIL} bytes"
        else:
            reply = await self._conclude(envelope, content, dot_ns)
        self.envelope = self._create_envelope()
        await self.push(reply)

    async def _conclude(self, envelope: Envelope, content: bytes, dot_ns: int) -> str:
        rule = self._desk.behaviours.decide("dot", envelope.rcpt_tos)
        if rule is not None:
            if rule.keep:
                await asyncio.sleep(rule.delay)
                self._desk.keep(self, content, dot_ns, silent=True)
                await self.vanish(close=rule.action == "disconnect")
            reply = await self.perform(rule, "250")
            if not rule.normal:
                return reply
        return self._desk.keep(self, content, dot_ns, silent=False)

    async def _read_content(self) -> bytes | None:
        """The content up to the line that is a single dot, dot-stuffing undone; None when it is too large.

        Only CRLF ends a line: a dot between bare line feeds is content.
        """
        parts: list[bytes] = []
        size = 0
        tail = CRLF
        ended = False
        while not ended:
            try:
                part = await self._reader.readuntil(DOT)
            except asyncio.LimitOverrunError as overrun:
                part = await self._reader.read(overrun.consumed)
            end = tail + part[-5:]
            tail = end[-2:]
            ended = end.endswith(CRLF + DOT)
            size += len(part)
            if size > LARGEST_MAIL:
                parts.clear()
            else:
                parts.append(part)
        if size > LARGEST_MAIL:
            return None
        content = b"".join(parts)[: -len(DOT)]
        return content.replace(b"\r\n.", CRLF).removeprefix(b".")

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        match = ADDRESS.fullmatch(arg)
        if match is not None:
            return match[1], match[2]
        address, rest = super()._getaddr(arg)
        return address, rest

    async def handle_exception(self, error: Exception) -> str:
        """The store failed (disk full, say): the client keeps the mail."""
        log.error("mail not kept", error=type(error).__name__)
        self.envelope = self._create_envelope()
        return f"451 4.3.0 {type(error).__name__}"


def _peer(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)


def _tls_version(extra: dict[str, Any] | None) -> str | None:
    secured = extra.get("ssl_object") if extra else None
    return secured.version() if isinstance(secured, ssl.SSLObject | ssl.SSLSocket) else None
