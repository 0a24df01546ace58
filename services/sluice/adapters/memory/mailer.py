"""Servers that take mail in memory, and misbehave as told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from sluice.domain.conversation import Transcript
from sluice.domain.smtp import Broken, Phase, Replied, Result, Tls, Unknown
from sluice.domain.wire import misfit
from sluice.ports.mailer import Hop, Transaction

TAKEN = Replied("dot", 250, "2.0.0 taken", "2.0.0")

Answer = Result | Callable[[Transaction], Awaitable[Result]]
"""How a transaction ends; a function is asked once the content is sent, and may wait: a server slow after the dot."""

_BEFORE_DATA: frozenset[Phase] = frozenset(("rset", "mail", "rcpt"))


class Taken(msgspec.Struct, frozen=True):
    """A mail that a server has."""

    hop: Hop
    transaction: Transaction


class MemoryMailer:
    """A :class:`sluice.ports.mailer.Mailer` whose servers take every mail, unless told otherwise.

    ``taken`` holds the mails accepted, ``doubtful`` those that ended in :class:`Unknown`, ``opened`` every connection
    made, in order.
    """

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.doubtful: list[Taken] = []
        self.opened: list[MemoryConnection] = []
        self._answers: dict[str, list[Answer]] = {}
        self._refusals: dict[str, list[Replied | Broken]] = {}

    def answer(self, who: str, *answers: Answer) -> None:
        """End transactions to a recipient's address, or on a host, with ``answers`` in turn; the last one stays.

        What is said of a recipient goes before what is said of a host.
        """
        self._answers[who] = list(answers)

    def refuse(self, host: str, *refusals: Replied | Broken) -> None:
        """End as many connection attempts to ``host`` with ``refusals``, in turn; later ones succeed."""
        self._refusals[host] = list(refusals)

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> MemoryConnection | Replied | Broken:
        """As the port says."""
        refusals = self._refusals.get(hop.host)
        refusal = refusals.pop(0) if refusals else None
        if talk is not None:
            talk.say("connect", f"{hop.host}:{hop.port}")
            _note(talk, refusal)
        if refusal is not None:
            return refusal
        connection = MemoryConnection(self, hop)
        self.opened.append(connection)
        return connection

    def next_answer(self, hop: Hop, transaction: Transaction) -> Answer:
        """What this transaction ends in."""
        answers = self._answers.get(transaction.rcpt_to) or self._answers.get(hop.host) or [TAKEN]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def keep(self, hop: Hop, transaction: Transaction, result: Result) -> None:
        """Put a mail where its result says that it is."""
        if isinstance(result, Unknown):
            self.doubtful.append(Taken(hop, transaction))
        elif isinstance(result, Replied) and result.accepted:
            self.taken.append(Taken(hop, transaction))


class MemoryConnection:
    """A :class:`sluice.ports.mailer.Connection`."""

    def __init__(self, mailer: MemoryMailer, hop: Hop) -> None:
        self._mailer = mailer
        self._hop = hop
        self.usable = True
        self.sent = 0
        """Transactions tried on it."""

    @property
    def host(self) -> str:
        """Name of the server."""
        return self._hop.host

    @property
    def address(self) -> str:
        """Address of the server."""
        return self._hop.address or "127.0.0.1"

    @property
    def tls(self) -> Tls:
        """The protection in force."""
        return Tls(self._hop.tls, failure=self._hop.tls_failure)

    async def send(
        self, transaction: Transaction, *, before_data: Callable[[], Awaitable[None]], talk: Transcript | None = None
    ) -> Result:
        """As the port says; only the end of the conversation is noted."""
        unsendable = misfit(transaction.mail_from, transaction.rcpt_to, transaction.content)
        if unsendable is not None:
            return unsendable
        if not self.usable:
            return Broken("mail", "disconnected", "the connection ended between two mails")
        self.sent += 1
        try:
            answer = self._mailer.next_answer(self._hop, transaction)
            if callable(answer) or isinstance(answer, Unknown) or answer.phase not in _BEFORE_DATA:
                await before_data()
            result = await answer(transaction) if callable(answer) else answer
        except BaseException:
            self.usable = False
            raise
        if talk is not None:
            talk.say("dot" if isinstance(result, Unknown) else result.phase)
            _note(talk, result)
        self._mailer.keep(self._hop, transaction, result)
        self.usable = isinstance(result, Replied) and result.code != 421
        return result

    async def quit(self) -> None:
        """As the port says."""
        self.usable = False


def _note(talk: Transcript, result: Result | None) -> None:
    if isinstance(result, Replied):
        talk.hear(result.code, (result.text,))
    else:
        talk.note(result.reason if result else "127.0.0.1", well=result is None)
