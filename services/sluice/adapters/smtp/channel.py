"""One connection's bytes: what was written, which replies are owed, and what went wrong first."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from sluice.adapters.smtp.reply import Garbage, Reply, ReplyReader


class Fault(Exception):
    """The connection is of no more use. ``reason`` is ``disconnected``, ``timeout``, ``garbage`` or ``tls``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Channel(asyncio.Protocol):
    """Pairs replies with what was written, in order.

    Every reply must be owed: the banner, or one announced with :meth:`write` or :meth:`expect`. A reply that nobody
    asked for ends the connection, because no later one could be trusted to belong to its command. At most the owed
    replies are kept, each of bounded size; they can still be read after the connection has ended.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._owed = 1
        self._stray: Reply | None = None
        self._fault: Fault | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below; only after the connection was made."""
        if self._transport is None:
            raise Fault("disconnected", "not connected")
        return self._transport

    @property
    def usable(self) -> bool:
        """Open, nothing unread and nothing owed."""
        return not (self._fault or self._replies or self._owed or self.transport.is_closing())

    @property
    def unsent(self) -> bool:
        """Whether bytes were written that the system had not taken (over TLS the lower layer may hide some)."""
        return self._paused

    def now(self) -> float:
        """The loop's time, in seconds."""
        return self._loop.time()

    @property
    def early(self) -> Reply | None:
        """What the server said without being asked, or before it was its turn, if anything."""
        return self._stray or (self._replies[0] if self._replies else None)

    def write(self, data: bytes | memoryview, replies: int = 0) -> None:
        """Send bytes that ask for ``replies`` replies. Raises :class:`Fault` when the connection has ended."""
        if self._fault is not None or self.transport.is_closing():
            raise self._ended()
        self._owed += replies
        self.transport.write(data)

    def expect(self, replies: int) -> None:
        """Announce replies to what is written next."""
        self._owed += replies

    async def reply(self, timeout: float) -> Reply:  # noqa: ASYNC109 one timer serves all waits of a connection
        """The next owed reply. Raises :class:`Fault`, for ``timeout`` when it takes more than so many seconds."""
        if not self._replies:
            self._set_deadline(timeout)
            while not self._replies:
                await self._change()
        return self._replies.popleft()

    async def drained(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until the system has taken all that was written; False when the server speaks before that.

        Raises :class:`Fault` when the connection ends before, so that certainly the last byte was not sent. (Over TLS
        the lower layer may hold some bytes back unseen: there True can come early, never late.)
        """
        if self._paused or self.transport.is_closing():
            self._set_deadline(timeout)
            while self._paused or self.transport.is_closing():
                if self.early is not None:
                    return False
                await self._change()
        return True

    async def start_tls(self, context: ssl.SSLContext, hostname: str, timeout: float) -> None:  # noqa: ASYNC109
        """Put TLS under the conversation, after the reply to STARTTLS or right after connecting.

        Raises :class:`Fault`: ``garbage`` when plaintext came behind that reply, which an attacker could have put there
        to be read as if it were protected (RFC 3207 section 4.2, CVE-2011-0411); ``tls`` when the handshake failed.
        """
        if self._reader.unfinished or self.early is not None:
            self._fail(Fault("garbage", "plaintext between STARTTLS and the handshake"))
        if self._fault is not None or self.transport.is_closing():
            raise self._ended()
        try:
            transport = await self._loop.start_tls(
                self.transport, self, context, server_hostname=hostname, ssl_handshake_timeout=timeout
            )
        except (OSError, ValueError, EOFError) as error:
            # OSError holds ssl.SSLError, resets and timeouts; ValueError a host name that cannot be one.
            self.abort()
            raise Fault("tls", str(error) or type(error).__name__) from error
        if transport is None:
            raise Fault("tls", "the connection ended in the handshake")
        self._use(transport)

    def abort(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._fault = self._fault or Fault("disconnected", "closed by this side")
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close when everything written was sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._use(transport)  # type: ignore[arg-type]  # uvloop's transports do not derive from asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._fault is not None:
            return
        try:
            for reply in self._reader.feed(data):
                if not self._owed:
                    self._stray = reply
                    raise Garbage("a reply to nothing that was asked")
                self._owed -= 1
                self._replies.append(reply)
        except Garbage as error:
            self._fail(Fault("garbage", str(error)))
        else:
            if self._replies:
                self._wake()

    def pause_writing(self) -> None:
        """Called by the loop."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._fault = self._fault or Fault("disconnected", str(exc or ""))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # Being told of a single unsent byte is how the final dot's whereabouts are known.
        transport.set_write_buffer_limits(high=1, low=0)

    def _ended(self) -> Fault:
        known = self._fault or Fault("disconnected")
        return Fault(known.reason, known.detail)

    def _fail(self, fault: Fault) -> None:
        self._fault = self._fault or fault
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self) -> None:
        if self._fault is not None:
            raise self._ended()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._expired)

    def _expired(self) -> None:
        # One timer per connection, moved on when it fires early: setting one per reply costs more than parsing it.
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline - 0.001:
            self._start_timer()
        else:
            self._fail(Fault("timeout"))
