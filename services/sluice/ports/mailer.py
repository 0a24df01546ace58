"""Speaking SMTP."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from sluice.domain.conversation import Transcript
from sluice.domain.dane import DaneHost
from sluice.domain.smtp import Broken, Replied, Result, Tls, TlsPolicy


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One server to speak to, and how. ``username`` and ``password`` are a relay's, offered only over TLS
    unless the host is a loopback address."""

    host: str
    port: int = 25
    address: str | None = None
    """Address to connect to; None looks ``host`` up."""
    ehlo: str
    source_address: str | None = None
    connect_within: float | None = None
    """Seconds to be connected in, where that is less than :attr:`Timeouts.connect`: there are others to try."""
    tls: TlsPolicy = "opportunistic"
    dane: DaneHost | None = None
    """The TLSA records to verify by, with policy ``dane``."""
    tls_testing: bool = False
    """Whether to find out if policy ``mta_sts`` could be kept, and report it while ``tls`` is what counts."""
    tls_failure: str | None = None
    """What is known to be wrong with the protection, to be reported in :attr:`Connection.tls`."""
    implicit_tls: bool = False
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Hop({self.host}:{self.port}, tls={self.tls})"


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds to wait in each phase (RFC 5321 section 4.5.3.2)."""

    connect: float = 60.0
    command: float = 300.0
    data: float = 120.0
    dot: float = 600.0
    quit: float = 5.0


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to hand over: MAIL FROM, RCPT TO, and the content with CRLF line ends, not yet dot-stuffed."""

    mail_from: str
    rcpt_to: str
    content: bytes
    smtputf8: bool = False


class Connection(Protocol):
    """An open, greeted connection. Not safe for two transactions at once."""

    @property
    def host(self) -> str:
        """Name of the server."""
        ...

    @property
    def address(self) -> str:
        """Address of the server."""
        ...

    @property
    def tls(self) -> Tls:
        """The protection in force."""
        ...

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried on it."""
        ...

    async def send(
        self, transaction: Transaction, *, before_data: Callable[[], Awaitable[None]], talk: Transcript | None = None
    ) -> Result:
        """Hand one mail over, and note in ``talk`` what was said.

        ``before_data`` is awaited before any content byte; and only once RCPT was accepted, unless the content goes
        along with it, as it may where the server offers CHUNKING (RFC 3030).

        Never raises for what the server does; what ``before_data`` raises passes through, the connection then unusable.
        """
        ...

    async def quit(self) -> None:
        """Say goodbye and close; never raises."""
        ...


class Mailer(Protocol):
    """Opens connections."""

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> Connection | Replied | Broken:
        """A greeted connection, or why there is none; what was said is noted in ``talk``.

        Never raises for what the server or the network does.
        """
        ...
