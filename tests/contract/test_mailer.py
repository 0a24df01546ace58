"""What every mailer promises: the memory twin, and the real one against a scripted server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
from tests.support.scripted_smtp import OFFERS, Peer, Script, ScriptedServer, polite

from sluice.adapters.memory.mailer import TAKEN, MemoryMailer
from sluice.adapters.smtp import SmtpMailer
from sluice.domain.smtp import Broken, Replied, Result, Unknown
from sluice.domain.wire import dot_stuffed
from sluice.ports.mailer import Connection, Hop, Mailer, Timeouts, Transaction

CONTENT = b"Subject: hello\r\n\r\n.leading dot\r\nlast line\r\n"
MAIL = Transaction(mail_from="bounce@sender.example", rcpt_to="reader@receiver.example", content=CONTENT)


class World(Protocol):
    """A mailer and the server it speaks to."""

    mailer: Mailer
    hop: Hop

    def end_with(self, result: Result) -> None:
        """End the coming transactions like this."""

    def refuse(self, refusal: Replied | Broken) -> None:
        """Refuse the next connection like this."""

    def taken(self) -> list[bytes]:
        """Contents for which the server said 250."""


class MemoryWorld:
    def __init__(self) -> None:
        self.mailer = MemoryMailer()
        self.hop = Hop(host="mx.receiver.example", address="127.0.0.1", ehlo="sender.example", tls="none")

    def end_with(self, result: Result) -> None:
        self.mailer.answer(MAIL.rcpt_to, result)

    def refuse(self, refusal: Replied | Broken) -> None:
        self.mailer.refuse(self.hop.host, refusal)

    def taken(self) -> list[bytes]:
        return [dot_stuffed(taken.transaction.content) for taken in self.mailer.taken]


class ScriptedWorld:
    moments = {"mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "dot": "dot"}

    def __init__(self, offers: tuple[str, ...]) -> None:
        self.answers: dict[str, bytes | Script] = {}
        self.server = ScriptedServer(polite(self.answers, offers=offers))
        self.mailer = SmtpMailer(Timeouts(connect=5, command=5, data=5, dot=5, quit=1))
        self.accepting = True

    def reach(self) -> None:
        self.hop = Hop(
            host="mx.receiver.example", address="127.0.0.1", port=self.server.port, ehlo="sender.example", tls="none"
        )

    def end_with(self, result: Result) -> None:
        self.answers.clear()
        moment = "dot" if isinstance(result, Unknown) else self.moments[result.phase]
        self.answers[moment] = f"{result.code} {result.text}\r\n".encode() if isinstance(result, Replied) else _cut
        self.accepting = isinstance(result, Replied) and result.accepted

    def refuse(self, refusal: Replied | Broken) -> None:
        if isinstance(refusal, Replied):
            self.answers["banner"] = f"{refusal.code} {refusal.text}\r\n".encode()
        else:
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                self.hop = Hop(host="127.0.0.1", port=unused.getsockname()[1], ehlo="sender.example", tls="none")

    def taken(self) -> list[bytes]:
        return [content for peer in self.server.peers for content in peer.contents] if self.accepting else []


async def _cut(peer: Peer) -> None:
    peer.cut()


@pytest.fixture(params=["memory", "scripted", "scripted without PIPELINING"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    real = ScriptedWorld(OFFERS if request.param == "scripted" else OFFERS[1:])
    async with real.server:
        real.reach()
        yield real


class Ledger:
    """Counts how often it was told that a mail is about to go."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.written = 0
        self.failure = failure

    async def __call__(self) -> None:
        self.written += 1
        if self.failure is not None:
            raise self.failure


async def opened(world: World) -> Connection:
    connection = await world.mailer.connect(world.hop)
    assert not isinstance(connection, Replied | Broken)
    return connection


async def test_a_mail_that_is_taken(world: World) -> None:
    connection, ledger = await opened(world), Ledger()
    result = await connection.send(MAIL, before_data=ledger)
    assert result == TAKEN
    assert isinstance(result, Replied)
    assert result.accepted
    assert ledger.written == 1
    assert world.taken() == [dot_stuffed(CONTENT)]
    assert connection.usable
    await connection.quit()


async def test_many_mails_over_one_connection(world: World) -> None:
    connection = await opened(world)
    for _ in range(5):
        assert await connection.send(MAIL, before_data=Ledger()) == TAKEN
    assert len(world.taken()) == 5
    await connection.quit()


async def test_a_connection_knows_its_server(world: World) -> None:
    connection = await opened(world)
    assert (connection.host, connection.address) == ("mx.receiver.example", "127.0.0.1")
    assert (connection.tls.policy, connection.tls.version) == ("none", None)
    await connection.quit()


@pytest.mark.parametrize(
    ("refusal", "written"),
    [
        (Replied("mail", 550, "5.1.8 bad sender", "5.1.8"), 0),
        (Replied("mail", 451, "later", None), 0),
        (Replied("rcpt", 550, "5.1.1 no such user", "5.1.1"), 0),
        (Replied("rcpt", 450, "4.2.0 greylisted", "4.2.0"), 0),
        (Replied("data", 554, "5.5.1 no", "5.5.1"), 1),
        (Replied("dot", 554, "5.7.1 spam", "5.7.1"), 1),
        (Replied("dot", 452, "4.3.1 disk full", "4.3.1"), 1),
    ],
)
async def test_a_refusal_ends_the_mail_and_not_the_connection(world: World, refusal: Replied, written: int) -> None:
    connection, ledger = await opened(world), Ledger()
    world.end_with(refusal)
    assert await connection.send(MAIL, before_data=ledger) == refusal
    assert ledger.written == written
    assert connection.usable
    assert world.taken() == []
    world.end_with(TAKEN)
    assert await connection.send(MAIL, before_data=Ledger()) == TAKEN
    await connection.quit()


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
async def test_421_ends_the_connection_too(world: World, phase: str) -> None:
    connection = await opened(world)
    world.end_with(Replied(phase, 421, "4.3.2 closing", "4.3.2"))  # type: ignore[arg-type]
    assert await connection.send(MAIL, before_data=Ledger()) == Replied(phase, 421, "4.3.2 closing", "4.3.2")  # type: ignore[arg-type]
    assert not connection.usable
    again = await connection.send(MAIL, before_data=Ledger())
    assert isinstance(again, Broken)
    assert (again.phase, again.reason) == ("mail", "disconnected")
    await connection.quit()


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
async def test_a_connection_lost_before_the_dot_is_certain(world: World, phase: str) -> None:
    connection = await opened(world)
    world.end_with(Broken(phase, "disconnected"))  # type: ignore[arg-type]
    result = await connection.send(MAIL, before_data=Ledger())
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == (phase, "disconnected")
    assert not connection.usable
    assert world.taken() == []
    await connection.quit()


async def test_a_connection_lost_after_the_dot_is_in_doubt(world: World) -> None:
    connection, ledger = await opened(world), Ledger()
    world.end_with(Unknown("disconnected"))
    result = await connection.send(MAIL, before_data=ledger)
    assert isinstance(result, Unknown)
    assert result.reason == "disconnected"
    assert ledger.written == 1
    assert not connection.usable
    await connection.quit()


async def test_a_ledger_that_cannot_write_stops_the_mail(world: World) -> None:
    connection = await opened(world)
    with pytest.raises(ValueError, match="no broker"):
        await connection.send(MAIL, before_data=Ledger(ValueError("no broker")))
    assert not connection.usable
    assert world.taken() == []
    await connection.quit()


@pytest.mark.parametrize("content", [b"a\n.\nb\r\n", b"a\r.\r\nb\r\n", b"\r\n.\n", b"a\r\n.\r", b"x\n"])
async def test_content_that_could_smuggle_a_second_mail_is_refused(world: World, content: bytes) -> None:
    """SMTP smuggling, CVE-2023-51764."""
    connection, ledger = await opened(world), Ledger()
    bad = Transaction(mail_from=MAIL.mail_from, rcpt_to=MAIL.rcpt_to, content=content)
    assert await connection.send(bad, before_data=ledger) == Broken(
        "data", "unsupported", "the content holds a bare CR or LF"
    )
    assert ledger.written == 0
    assert connection.usable
    assert await connection.send(MAIL, before_data=Ledger()) == TAKEN
    assert world.taken() == [dot_stuffed(CONTENT)]
    await connection.quit()


@pytest.mark.parametrize("address", ["a@b\r\nRCPT TO:<x@y>", "a@b> NOTIFY=NEVER", "a b@c", "a\x00@b", "nobody"])
async def test_an_address_that_would_leave_its_command_is_refused(world: World, address: str) -> None:
    connection = await opened(world)
    to = Transaction(mail_from=MAIL.mail_from, rcpt_to=address, content=CONTENT)
    of = Transaction(mail_from=address, rcpt_to=MAIL.rcpt_to, content=CONTENT)
    for transaction, phase in ((to, "rcpt"), (of, "mail")):
        result = await connection.send(transaction, before_data=Ledger())
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == (phase, "unsupported")
        assert address not in result.detail
    assert connection.usable
    assert world.taken() == []
    await connection.quit()


async def test_bounces_have_an_empty_sender(world: World) -> None:
    connection = await opened(world)
    bounce = Transaction(mail_from="", rcpt_to=MAIL.rcpt_to, content=CONTENT)
    assert await connection.send(bounce, before_data=Ledger()) == TAKEN
    await connection.quit()


@pytest.mark.parametrize("code", [554, 421, 450])
async def test_a_server_that_does_not_want_us(world: World, code: int) -> None:
    refusal = Replied("banner", code, "go away")
    world.refuse(refusal)
    assert await world.mailer.connect(world.hop) == refusal


async def test_a_server_that_is_not_there(world: World) -> None:
    world.refuse(Broken("connect", "refused"))
    refused = await world.mailer.connect(world.hop)
    assert isinstance(refused, Broken)
    assert (refused.phase, refused.reason) == ("connect", "refused")


async def test_quit_can_be_said_twice(world: World) -> None:
    connection = await opened(world)
    await connection.quit()
    assert not connection.usable
    await connection.quit()
