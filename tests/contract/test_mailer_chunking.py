"""Mails sent whole in one write (RFC 3030), to servers that keep to it and to servers that do not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from tests.support.scripted_smtp import OFFERS, Peer, Script, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.smtp import Broken, Replied, Result, Unknown
from sluice.domain.wire import bdat, dot_stuffed
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
CHUNKING = (*OFFERS, "CHUNKING")
CONTENT = b"Subject: x\r\n\r\n.dot\r\nbody\r\n"
TAKEN = Replied("dot", 250, "2.0.0 taken", "2.0.0")
Answers = dict[str, bytes | Script]


async def nothing() -> None:
    """No ledger."""


def to(content: bytes = CONTENT, rcpt_to: str = "reader@receiver.example") -> Transaction:
    return Transaction(mail_from="bounce@sender.example", rcpt_to=rcpt_to, content=content)


class Talk:
    """A connection that has taken one mail, and what the server heard after that."""

    def __init__(self, mailer: SmtpMailer, hop: Hop, connection: SmtpConnection, peer: Peer) -> None:
        self.mailer = mailer
        self.hop = hop
        self.connection = connection
        self.peer = peer

    async def send(
        self, mail: Transaction | None = None, before_data: Callable[[], Awaitable[None]] = nothing
    ) -> Result:
        self.peer.commands.clear()
        self.peer.contents.clear()
        return await self.connection.send(mail or to(), before_data=before_data)

    @property
    def verbs(self) -> list[bytes]:
        return [command[:4] for command in self.peer.commands]


@asynccontextmanager
async def talk(
    answers: Answers, offers: tuple[str, ...] = CHUNKING, timeouts: Timeouts = QUICK, receive_buffer: int | None = None
) -> AsyncIterator[Talk]:
    async with ScriptedServer(polite(answers, offers=offers), receive_buffer=receive_buffer) as server:
        mailer = SmtpMailer(timeouts)
        hop = Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.sender.example", tls="none")
        connection = await mailer.connect(hop)
        assert isinstance(connection, SmtpConnection), connection
        assert await connection.send(to(), before_data=nothing) == TAKEN
        yield Talk(mailer, hop, connection, server.peers[0])
        await connection.quit()


@given(st.lists(st.sampled_from([b"", b".", b"..x", b"text", b"\xe4\x00"])), st.booleans())
def test_a_chunk_and_a_stuffed_content_say_the_same(lines: list[bytes], ended: bool) -> None:
    content = b"\r\n".join(lines) + (b"\r\n" if ended else b"")
    command, _, chunk = bdat(content).partition(b"\r\n")
    assert command == b"BDAT %d LAST" % len(chunk)
    assert dot_stuffed(chunk) == dot_stuffed(content)


@pytest.mark.parametrize("content", [CONTENT, b"", b".", b"no end", b".\r\n", b"\xe4\x00\r\n", b"x\r\n" * 40_000])
async def test_a_busy_connection_sends_a_mail_whole_and_unstuffed(content: bytes) -> None:
    async with talk({}) as it:
        assert await it.send(to(content)) == TAKEN
        assert it.verbs == [b"MAIL", b"RCPT", b"BDAT"]
        end = b"" if not content or content.endswith(b"\r\n") else b"\r\n"
        assert it.peer.contents == [content + end]
        assert it.connection.usable


async def test_all_of_it_comes_before_any_reply() -> None:
    """One round trip a mail."""

    async def listen_first(peer: Peer) -> None:
        await peer.hear()
        command = await peer.hear()
        await peer.hear_chunk(command)
        await peer.say(b"250 mail\r\n250 rcpt\r\n250 2.0.0 taken\r\n")

    answers: Answers = {}
    async with talk(answers) as it:
        answers["MAIL"] = listen_first
        assert await it.send() == TAKEN
        assert it.peer.contents == [CONTENT]


@pytest.mark.parametrize(
    ("offers", "content"),
    [(OFFERS, CONTENT), (CHUNKING[1:], CONTENT), (CHUNKING, b"x\r\n" * 50_000)],
    ids=["CHUNKING is not offered", "PIPELINING is not offered", "a big mail"],
)
async def test_otherwise_the_content_waits(offers: tuple[str, ...], content: bytes) -> None:
    async with talk({}, offers) as it:
        assert await it.send(to(content)) == TAKEN
        assert it.verbs == [b"MAIL", b"RCPT", b"DATA"]


async def test_a_connection_that_lay_idle_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been closed unseen: a mail sent whole into that would be in doubt without need."""
    async with talk({}) as it:
        now = it.connection._channel.now() + 60
        monkeypatch.setattr(it.connection._channel, "now", lambda: now)
        assert await it.send() == TAKEN
        assert it.verbs == [b"MAIL", b"RCPT", b"DATA"]
        assert await it.send() == TAKEN
        assert it.verbs == [b"MAIL", b"RCPT", b"BDAT"]


async def test_a_connection_that_lay_idle_while_the_ledger_wrote_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or while the mail waited for its turn: as above. The ledger is asked once."""
    asked: list[None] = []

    async def long() -> None:
        asked.append(None)
        now = it.connection._channel.now() + 60
        monkeypatch.setattr(it.connection._channel, "now", lambda: now)

    async with talk({}) as it:
        assert await it.send(before_data=long) == TAKEN
        assert it.verbs == [b"MAIL", b"RCPT", b"DATA"]
        assert len(asked) == 1


async def test_nothing_leaves_before_the_ledger_has_written() -> None:
    async def ledger() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        assert it.peer.commands == []
        assert it.peer.reader._buffer == b""  # type: ignore[attr-defined]

    async with talk({}) as it:
        assert await it.send(before_data=ledger) == TAKEN


async def test_a_connection_that_ends_while_the_ledger_writes_took_nothing() -> None:
    async def slow() -> None:
        await it.peer.say(b"421 4.4.2 idle\r\n")
        async with asyncio.timeout(5):
            while it.connection.usable:  # noqa: ASYNC110  there is nothing to be told by
                await asyncio.sleep(0)

    async with talk({}) as it:
        result = await it.send(before_data=slow)
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("mail", "disconnected")


async def test_a_ledger_that_cannot_write_sends_nothing() -> None:
    async def failing() -> None:
        raise ValueError("no broker")

    async with talk({}) as it:
        with pytest.raises(ValueError, match="no broker"):
            await it.send(before_data=failing)
        assert not it.connection.usable
        assert it.peer.commands == []


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        ({"MAIL": b"451 4.3.0 later\r\n"}, Replied("mail", 451, "4.3.0 later", "4.3.0")),
        ({"RCPT": b"550 5.1.1 unknown\r\n"}, Replied("rcpt", 550, "5.1.1 unknown", "5.1.1")),
        ({"BDAT": b"554 5.7.1 spam\r\n"}, Replied("dot", 554, "5.7.1 spam", "5.7.1")),
        ({"BDAT": b"452 4.3.1 full\r\n"}, Replied("dot", 452, "4.3.1 full", "4.3.1")),
    ],
)
async def test_a_refusal_ends_the_mail_and_not_the_connection(answers: Answers, result: Result) -> None:
    """The server has thrown the content away, and answers BDAT too."""
    told: Answers = {}
    async with talk(told) as it:
        told.update(answers)
        assert await it.send() == result
        assert it.peer.contents == [CONTENT]
        assert it.connection.usable
        told.clear()
        assert await it.send() == TAKEN
        assert it.verbs == [b"RSET", b"MAIL", b"RCPT", b"DATA"], "after a refusal the content waits once"


async def test_a_server_that_takes_a_mail_for_nobody_gets_no_other() -> None:
    told: Answers = {}
    async with talk(told) as it:
        told.update({"RCPT": b"550 5.1.1 unknown\r\n", "BDAT": b"250 2.0.0 taken\r\n"})
        assert await it.send() == Replied("rcpt", 550, "5.1.1 unknown", "5.1.1")
        assert not it.connection.usable


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "BDAT"])
async def test_421_is_heard_at_every_moment(moment: str) -> None:
    told: Answers = {}
    async with talk(told) as it:
        told[moment] = b"421 4.3.2 closing\r\n"
        phase = {"MAIL": "mail", "RCPT": "rcpt", "BDAT": "dot"}[moment]
        assert await it.send() == Replied(phase, 421, "4.3.2 closing", "4.3.2")  # type: ignore[arg-type]
        assert not it.connection.usable


@pytest.mark.parametrize("code", [500, 502, 503])
async def test_a_server_that_offers_bdat_and_does_not_know_it_gets_data_from_then_on(code: int) -> None:
    async def baffled(peer: Peer) -> None:
        while await peer.hear():
            await peer.say(b"%d what?\r\n" % code)

    told: Answers = {}
    async with talk(told) as it:

        async def not_known(peer: Peer) -> None:
            await peer.say(b"%d what?\r\n" % code)
            await baffled(peer)

        told["BDAT"] = not_known
        result = await it.send()
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("data", "garbage")
        assert not it.connection.usable
        another = await it.mailer.connect(it.hop)
        assert isinstance(another, SmtpConnection)
        for _ in range(3):
            assert await another.send(to(), before_data=nothing) == TAKEN
        await another.quit()


async def cut(peer: Peer) -> None:
    peer.cut()


async def cut_in_the_chunk(peer: Peer) -> None:
    await peer.reader.readexactly(5)
    peer.cut()


@pytest.mark.parametrize(
    ("how", "reason"), [(cut, "disconnected"), (cut_in_the_chunk, "disconnected"), (Peer.gone, "timeout")]
)
@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "BDAT"])
async def test_what_was_written_and_not_answered_is_in_doubt(moment: str, how: Script, reason: str) -> None:
    """However early the connection ends: the replies that came tell nothing of those that did not."""
    told: Answers = {}
    async with talk(told, timeouts=Timeouts(connect=5, command=0.3, data=5, dot=0.3, quit=1)) as it:
        told[moment] = how
        result = await it.send()
        assert isinstance(result, Unknown)
        assert result.reason == reason
        assert not it.connection.usable


async def test_a_server_that_hangs_up_without_a_reply_gets_no_content_before_its_reply_again() -> None:
    """Some end a connection after so many mails: one doubt, not one for each connection."""
    told: Answers = {}
    async with talk(told) as it:
        told["MAIL"] = cut
        assert isinstance(await it.send(), Unknown)
        told.clear()
        again = await it.mailer.connect(it.hop)
        assert isinstance(again, SmtpConnection)
        assert await again.send(to(), before_data=nothing) == TAKEN
        told["MAIL"] = cut
        result = await again.send(to(), before_data=nothing)
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("mail", "disconnected")


def test_a_chunk_whose_end_waits_in_our_own_buffer_was_not_sent() -> None:
    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async def run() -> None:
        told: Answers = {}
        brief = Timeouts(connect=5, command=0.2, data=5, dot=5, quit=1)
        async with talk(told, timeouts=brief, receive_buffer=2_048) as it:
            ours = it.connection._channel.transport.get_extra_info("socket")
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
            told["MAIL"] = deaf
            assert await it.send(to(b"z\r\n" * 40_000)) == Broken("mail", "timeout")

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run())


async def test_it_can_be_turned_off() -> None:
    async with ScriptedServer(polite(offers=CHUNKING)) as server:
        hop = Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.sender.example", tls="none")
        connection = await SmtpMailer(QUICK, chunking=False).connect(hop)
        assert isinstance(connection, SmtpConnection)
        for _ in range(3):
            assert await connection.send(to(), before_data=nothing) == TAKEN
        await connection.quit()
        assert b"BDAT" not in b"".join(server.peers[0].commands)
