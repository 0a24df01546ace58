"""Mails over an open connection, one after the other."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import structlog

from sluice.adapters.smtp.capabilities import Capabilities
from sluice.adapters.smtp.channel import Channel, Fault
from sluice.adapters.smtp.reply import Reply
from sluice.adapters.smtp.security import FailureMemory
from sluice.adapters.smtp.sendable import needs_utf8, unsendable
from sluice.domain.conversation import Transcript
from sluice.domain.smtp import Broken, Phase, Replied, Result, Tls, Unknown
from sluice.domain.wire import bdat, dot_stuffed
from sluice.ports.mailer import Timeouts, Transaction

log = structlog.get_logger(__name__)

_CHUNK = 262_144
"""Octets written before waiting for the system to take them: bounds copies, and each gets a timeout of its own."""
_AT_ONCE = 131_072
"""Octets of content that are sent before it is known whether there is a recipient for them."""
_FRESH = 1.0
"""Seconds for which a connection that took a mail is trusted to be open still."""
_NOT_KNOWN = (500, 501, 502, 503, 504)
"""Replies by which a server says that it does not know a command, or not here."""

_ENDED_BETWEEN = "the connection ended between two mails"

_Command = tuple[Phase, bytes, str]
"""What it is, as it is sent, and as it may be told."""


class SmtpConnection:
    """A :class:`sluice.ports.mailer.Connection`.

    Where the server offers PIPELINING (RFC 2920), RSET if one is due, MAIL, RCPT and DATA go out in one write. Where it
    offers CHUNKING (RFC 3030) too, so does the content, once the connection has taken a mail and while it is busy.
    ``chunking`` remembers the servers with which that went wrong; None turns it off.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        host: str,
        port: int,
        address: str,
        tls: Tls,
        offered: Capabilities,
        timeouts: Timeouts,
        chunking: FailureMemory | None = None,
    ) -> None:
        self._channel = channel
        self._host = host
        self._server = (host, port)
        self._chunking = chunking
        self._address = address
        self._tls = tls
        self._offered = offered
        self._timeouts = timeouts
        self._phase: Phase = "mail"
        self._content_written = False
        self._reset_due = False
        self._proven_at = -math.inf

    @property
    def host(self) -> str:
        """Name of the server."""
        return self._host

    @property
    def address(self) -> str:
        """Address of the server."""
        return self._address

    @property
    def tls(self) -> Tls:
        """The protection in force."""
        return self._tls

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried on it."""
        return self._channel.usable

    async def send(
        self, transaction: Transaction, *, before_data: Callable[[], Awaitable[None]], talk: Transcript | None = None
    ) -> Result:
        """As the port says.

        Nothing is written for a transaction that cannot be sent as it stands: :class:`Broken` with ``unsupported`` at
        ``data`` for a bare CR or LF in the content, at ``mail`` or ``rcpt`` for an address that would leave its path,
        at ``mail`` for 8-bit content or SMTPUTF8 that the server does not offer to take; and :class:`Replied` 552 with
        a text that begins with ``sluice:`` for content above the server's SIZE limit. The connection stays usable.
        """
        refusal = unsendable(transaction, self._offered)
        if refusal is not None:
            return refusal
        if not self._channel.usable:
            self._channel.abort()
            return Broken("mail", "disconnected", _ENDED_BETWEEN)
        self._phase = "mail"
        self._content_written = False
        talk = talk or Transcript(self._channel.now)
        try:
            if self._takes_all_at_once and len(transaction.content) <= _AT_ONCE:
                result = await self._all_at_once(transaction, before_data, talk)
            else:
                result = await self._exchange(transaction, before_data, talk)
        except Fault as fault:
            self._channel.abort()
            result = self._ended(fault)
            if isinstance(result, Replied):
                talk.hear(result.code, (result.text,))
            talk.note(str(fault))
            return result
        except BaseException:
            self._channel.abort()
            raise
        accepted = isinstance(result, Replied) and result.accepted
        # Where one recipient was refused the next may be: its content waits for RCPT's reply.
        self._proven_at = self._channel.now() if accepted else -math.inf
        if isinstance(result, Replied) and result.code == 421:
            self._channel.abort()
        return result

    async def quit(self) -> None:
        """Say QUIT, wait for the answer as long as ``Timeouts.quit``, close."""
        try:
            if self._channel.usable:
                self._channel.write(b"QUIT\r\n", 1)
                await self._channel.reply(self._timeouts.quit)
                self._channel.close()
        except Fault:
            pass
        finally:
            if not self._channel.transport.is_closing():
                self._channel.abort()

    @property
    def _takes_all_at_once(self) -> bool:
        if self._chunking is None or not (self._offered.chunking and self._offered.pipelining):
            return False
        # Where the connection may have ended unseen, a mail sent whole would be in doubt without need.
        return self._channel.now() - self._proven_at < _FRESH and self._server not in self._chunking

    async def _all_at_once(
        self, transaction: Transaction, before_data: Callable[[], Awaitable[None]], talk: Transcript
    ) -> Result:
        """MAIL, RCPT and a single BDAT with the content in one write: a mail in one round trip (RFC 3030).

        Where ``before_data`` took so long that the connection may have ended unseen, the server is asked first.
        """
        channel, opening = self._channel, self._opening(transaction)
        talk.say("log")
        await before_data()
        talk.passed()
        if not channel.usable:
            raise Fault("disconnected", _ENDED_BETWEEN)
        if not self._takes_all_at_once:
            return await self._exchange(transaction, _nothing, talk)
        channel.write(b"".join([*(line for _, line, _ in opening), bdat(transaction.content)]), len(opening) + 1)
        self._content_written = True
        for done, (phase, _, shown) in enumerate(opening, 1):
            self._phase = phase
            talk.say(phase, shown)
            reply = await channel.reply(self._timeouts.command)
            talk.hear(reply.code, reply.lines)
            if not reply.positive:
                result = self._refusal(reply)
                if reply.code != 421:
                    await self._clear(len(opening) - done + 1)
                return result
        self._reset_due = False
        self._phase = "dot"
        talk.say("dot", f"BDAT {len(transaction.content)} LAST")
        reply = await channel.reply(self._timeouts.dot)
        talk.hear(reply.code, reply.lines)
        if reply.code in _NOT_KNOWN:
            # What a server that knows no BDAT made of the content, read as commands, cannot be told.
            channel.abort()
            self._shun(f"BDAT answered by {reply.code}")
            return Broken("data", "garbage", f"the server offers CHUNKING and answers BDAT by {reply.code}")
        self._reset_due = not reply.positive
        return reply.at("dot") if reply.positive else self._refusal(reply)

    def _shun(self, detail: str) -> None:
        if self._chunking is not None:
            log.warning("chunking_failed", host=self._host, port=self._server[1], detail=detail)
            self._chunking.add(self._server, detail)

    async def _exchange(
        self, transaction: Transaction, before_data: Callable[[], Awaitable[None]], talk: Transcript
    ) -> Result:
        channel, pipelined = self._channel, self._offered.pipelining
        opening = self._opening(transaction)
        if pipelined:
            channel.write(b"".join([line for _, line, _ in opening]) + b"DATA\r\n", len(opening) + 1)
        for done, (phase, line, shown) in enumerate(opening, 1):
            self._phase = phase
            talk.say(phase, shown)
            if not pipelined:
                channel.write(line, 1)
            reply = await channel.reply(self._timeouts.command)
            talk.hear(reply.code, reply.lines)
            if not reply.positive:
                result = self._refusal(reply)
                if reply.code != 421:
                    await self._clear(len(opening) - done + 1 if pipelined else 0)
                return result
        self._reset_due = False
        self._phase = "data"
        if not pipelined:
            channel.write(b"DATA\r\n", 1)
        talk.say("log")
        await before_data()
        talk.passed()
        talk.say("data", "DATA")
        reply = await channel.reply(self._timeouts.data)
        talk.hear(reply.code, reply.lines)
        if reply.code != 354:
            result = self._refusal(reply)
            self._reset_due = True
            return result
        talk.say("content", f"({len(transaction.content)} octets)")
        await self._write_content(transaction.content)
        talk.passed()
        self._content_written = True
        self._phase = "dot"
        talk.say("dot", ".")
        reply = await channel.reply(self._timeouts.dot)
        talk.hear(reply.code, reply.lines)
        return reply.at("dot") if reply.positive else self._refusal(reply)

    def _opening(self, transaction: Transaction) -> list[_Command]:
        more = f" SIZE={len(transaction.content)}" if self._offered.size else ""
        if self._offered.eight_bit and not transaction.content.isascii():
            more += " BODY=8BITMIME"
        if needs_utf8(transaction):
            more += " SMTPUTF8"
        commands: list[_Command] = [
            ("mail", f"MAIL FROM:<{transaction.mail_from}>{more}\r\n".encode(), f"MAIL FROM:<…>{more}"),
            ("rcpt", f"RCPT TO:<{transaction.rcpt_to}>\r\n".encode(), "RCPT TO:<…>"),
        ]
        if self._reset_due:
            commands.insert(0, ("rset", b"RSET\r\n", "RSET"))
        return commands

    async def _write_content(self, content: bytes) -> None:
        channel = self._channel
        wire = memoryview(dot_stuffed(content))
        for start in range(0, len(wire), _CHUNK):
            if start + _CHUNK >= len(wire):
                channel.expect(1)
            channel.write(wire[start : start + _CHUNK])
            if not await channel.drained(self._timeouts.data):
                raise Fault("garbage", "the server answered before the content's end")

    async def _clear(self, owed: int) -> None:
        """After a refusal: read the replies still owed to what was pipelined, and leave data mode if DATA was taken."""
        self._reset_due = True
        channel = self._channel
        try:
            reply = None
            for _ in range(owed):
                reply = await channel.reply(self._timeouts.quit)
            if reply is not None and reply.code == 354:
                # RFC 2920 section 3.1: nothing but the final dot, to a server that has no recipient for it.
                channel.write(b".\r\n", 1)
                reply = await channel.reply(self._timeouts.quit)
            if reply is not None and not reply.negative:
                channel.abort()
        except Fault:
            channel.abort()

    def _refusal(self, reply: Reply) -> Replied:
        if not reply.negative:
            raise Fault("garbage", f"unexpected code {reply.code}")
        return reply.at(self._phase)

    def _ended(self, fault: Fault) -> Result:
        if self._content_written and not self._channel.unsent:
            if self._phase != "dot":
                self._shun(f"{fault.reason} at {self._phase}, the content being written")
            return Unknown(fault.reason, fault.detail)
        early = self._channel.early if self._phase == "data" else None
        if early is not None and early.negative:
            return early.at("data")
        return Broken(self._phase, fault.reason, fault.detail)


async def _nothing() -> None:
    return
