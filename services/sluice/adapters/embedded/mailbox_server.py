"""The receiving mail server, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import structlog

from sluice.adapters.embedded.mailbox_behaviour import Behaviour, Behaviours
from sluice.adapters.embedded.mailbox_smtp import Conversation, Desk, Stats
from sluice.adapters.embedded.mailbox_store import Mailbox, Store
from sluice.adapters.embedded.ports import LOOPBACK, PortTaken

log = structlog.get_logger(__name__)

BACKLOG = 1024
CLOSING = 2.0
"""Seconds that connections have to close when the server stops."""


class MailboxServer:
    """An SMTP server that keeps every mail it takes in ``data``, and misbehaves as ``behaviours`` and addresses say.

    ``port`` 0 takes a free one. ``timeout`` is how long it waits for a client's next command, in seconds; its own
    deliberate silences end then too. ``tls`` offers STARTTLS. ``random`` decides where a behaviour has a probability.
    Use it on a running event loop::

        down = Behaviour(domain="down.example", reply="421 4.3.2 Down")
        async with MailboxServer(folder, behaviours=[down]) as server:
            ...  # send to server.port
            assert server.mailbox.copies()["<id@example>"] == 1
    """

    def __init__(
        self,
        data: Path,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        behaviours: Iterable[Behaviour] = (),
        hostname: str = "mailbox.localhost",
        tls: ssl.SSLContext | None = None,
        timeout: float = 900.0,
        random: Random | None = None,
    ) -> None:
        self.data = data
        self.mailbox = Mailbox(data)
        self._host, self._port = host, port
        self._hostname, self._tls, self._timeout = hostname, tls, timeout
        self._random = random or Random()  # noqa: S311 -- nothing secret
        self._behaviours = tuple(behaviours)
        self._desk: Desk | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def stats(self) -> Stats:
        """Numbers since the start."""
        return self._running().stats

    @property
    def behaviours(self) -> tuple[Behaviour, ...]:
        """The rules in force; setting them starts their counts anew."""
        return self._behaviours

    @behaviours.setter
    def behaviours(self, rules: Iterable[Behaviour]) -> None:
        self._behaviours = tuple(rules)
        if self._desk is not None:
            self._desk.behaviours = Behaviours(self._behaviours, random=self._random)

    async def start(self) -> None:
        """Listen. Raises :class:`PortTaken`."""
        self._desk = Desk(Store(self.data), Behaviours(self._behaviours, random=self._random))
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._greet, self._host, self._port, backlog=BACKLOG)
        except OSError as error:
            self._desk.store.close()
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(self._port, "the mailbox") from error
            raise
        self._port = self._server.sockets[0].getsockname()[1]
        log.info("mailbox listens", host=self._host, port=self._port, folder=str(self.data))

    async def stop(self) -> None:
        """Stop listening, close all connections and the index."""
        if self._server is None or self._desk is None:
            return
        self._server.close()
        for conversation in list(self._desk.open):
            if conversation.transport is not None:
                conversation.transport.close()
        if self._desk.open:
            self._desk.empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._desk.empty.wait(), CLOSING)
        await self._server.wait_closed()
        self._server = None
        self._desk.store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _greet(self) -> Conversation:
        return Conversation(
            self._running(),
            hostname=self._hostname,
            ident="Sluice mailbox",
            tls_context=self._tls,
            timeout=self._timeout,
            loop=asyncio.get_running_loop(),
        )

    def _running(self) -> Desk:
        if self._desk is None:
            raise RuntimeError("the mailbox server was not started")
        return self._desk
