"""What the SMTP client puts on the wire, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiosmtplib
import pytest
from aiosmtpd.controller import UnthreadedController
from tests.support.scripted_smtp import OFFERS, Peer, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.smtp import Broken, Replied, Result
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)


async def nothing() -> None:
    """No ledger."""


def to(
    content: bytes = b"Subject: x\r\n\r\nbody\r\n", *, rcpt_to: str = "reader@receiver.example", smtputf8: bool = False
) -> Transaction:
    return Transaction(mail_from="bounce@sender.example", rcpt_to=rcpt_to, content=content, smtputf8=smtputf8)


async def opened(server: ScriptedServer, timeouts: Timeouts = QUICK) -> SmtpConnection:
    hop = Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.sender.example", tls="none")
    connection = await SmtpMailer(timeouts).connect(hop)
    assert isinstance(connection, SmtpConnection), connection
    return connection


async def send(server: ScriptedServer, *transactions: Transaction) -> list[Result]:
    connection = await opened(server)
    results = [await connection.send(transaction, before_data=nothing) for transaction in transactions]
    await connection.quit()
    return results


CONTENTS = [
    (b"", b".\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n.\r\n", b"..\r\n..\r\n.\r\n"),
    (b"A: b\r\n\r\n.dot\r\n..dots\r\n", b"A: b\r\n\r\n..dot\r\n...dots\r\n.\r\n"),
    (b"A: b\r\n\r\nno end", b"A: b\r\n\r\nno end\r\n.\r\n"),
    (b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n", b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n.\r\n"),
    (
        b"A: b\r\n\r\n" + bytes(range(128, 256)) + b"\x00\x85\r\n",
        b"A: b\r\n\r\n" + bytes(range(128, 256)) + b"\x00\x85\r\n.\r\n",
    ),
    (b" \t \r\n  \r\n\r\n", b" \t \r\n  \r\n\r\n.\r\n"),
    (b".line\r\n" * 60_000, b"..line\r\n" * 60_000 + b".\r\n"),
]


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelined", "one by one"])
@pytest.mark.parametrize(("content", "wire"), CONTENTS)
async def test_content_arrives_dot_stuffed_and_otherwise_untouched(
    content: bytes, wire: bytes, offers: tuple[str, ...]
) -> None:
    async with ScriptedServer(polite(offers=offers)) as server:
        (result,) = await send(server, to(content))
        assert isinstance(result, Replied)
        assert result.accepted
        assert server.peers[0].contents == [wire]


@pytest.mark.parametrize("content", [content for content, _ in CONTENTS if content])
async def test_aiosmtplib_would_write_the_same_bytes(content: bytes) -> None:
    async with ScriptedServer(polite()) as server:
        await send(server, to(content))
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=server.port, start_tls=False, local_hostname="x"
        ) as reference:
            await reference.mail("bounce@sender.example")
            await reference.rcpt("reader@receiver.example")
            await reference.data(content)
        ours, theirs = server.peers
        assert ours.contents == theirs.contents


async def test_aiosmtpd_takes_our_mails() -> None:
    """The whole way against a server that somebody else wrote."""
    envelopes = []

    class Keep:
        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
            envelopes.append(envelope)
            return "250 kept"

    controller = UnthreadedController(Keep(), hostname="127.0.0.1", port=0, loop=asyncio.get_running_loop())
    server = await controller._create_server()
    try:
        hop = Hop(host="127.0.0.1", port=server.sockets[0].getsockname()[1], ehlo="out.sender.example")
        connection = await SmtpMailer(QUICK).connect(hop)
        assert isinstance(connection, SmtpConnection)
        content = b"Subject: x\r\n\r\n.\r\n.dot \xc3\xa9\r\n"
        for _ in range(3):
            result = await connection.send(to(content), before_data=nothing)
            assert result == Replied("dot", 250, "kept")
        await connection.quit()
        assert [envelope.original_content for envelope in envelopes] == [content] * 3
    finally:
        server.close()


async def test_the_whole_opening_goes_out_in_one_write_where_the_server_pipelines() -> None:
    heard = []

    async def patient(peer: Peer) -> None:
        await peer.say(b"220 hello\r\n")
        await peer.hear()
        await peer.say(b"250-me\r\n250 PIPELINING\r\n")
        heard.append([await peer.hear() for _ in range(3)])
        await peer.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await peer.hear_content()
        await peer.say(b"250 ok\r\n")

    async with ScriptedServer(patient) as server:
        await send(server, to())
    assert heard == [[b"MAIL FROM:<bounce@sender.example>", b"RCPT TO:<reader@receiver.example>", b"DATA"]]


async def test_nothing_is_pipelined_where_the_server_does_not_offer_it() -> None:
    async def strict(peer: Peer) -> None:
        await peer.say(b"220 hello\r\n")
        for answer in (b"250 me\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.hear()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not peer.reader._buffer, "the client did not wait"  # type: ignore[attr-defined]
            await peer.say(answer)
        await peer.hear_content()
        await peer.say(b"250 ok\r\n")

    async with ScriptedServer(strict) as server:
        (result,) = await send(server, to())
    assert result == Replied("dot", 250, "ok")


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelined", "one by one"])
async def test_no_content_byte_leaves_before_the_ledger_has_written(offers: tuple[str, ...]) -> None:
    order: list[str] = []
    asked = asyncio.Event()

    async def data(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        asked.set()
        await peer.reader.readexactly(1)
        order.append("content")
        await peer.reader.readuntil(b"\r\n.\r\n")
        await peer.say(b"250 taken\r\n")

    async def ledger() -> None:
        await asked.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        order.append("ledger")

    async with ScriptedServer(polite({"DATA": data}, offers=offers)) as server:
        connection = await opened(server)
        await connection.send(to(), before_data=ledger)
        await connection.quit()
    assert order == ["ledger", "content"]


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelined", "one by one"])
async def test_rset_is_said_after_a_refusal_only(offers: tuple[str, ...]) -> None:
    answers: dict[str, bytes | Callable[[Peer], Awaitable[None]]] = {}
    async with ScriptedServer(polite(answers, offers=offers)) as server:
        connection = await opened(server)
        await connection.send(to(), before_data=nothing)
        answers["RCPT"] = b"550 no\r\n"
        await connection.send(to(), before_data=nothing)
        del answers["RCPT"]
        await connection.send(to(), before_data=nothing)
        await connection.send(to(), before_data=nothing)
        await connection.quit()
        verbs = [command[:4] for command in server.peers[0].commands if not command.startswith(b"DATA")]
    mail = [b"MAIL", b"RCPT"]
    assert verbs == [b"EHLO", *mail, *mail, b"RSET", *mail, *mail, b"QUIT"]


@pytest.mark.parametrize(("answer", "usable"), [(b"554 5.5.1 no valid recipients\r\n", True), (b"250 ok\r\n", False)])
async def test_data_mode_without_a_recipient_is_left_by_a_lone_dot(answer: bytes, usable: bool) -> None:
    """RFC 2920 section 3.1; a server that takes the empty mail is not trusted with another."""
    answers = {"RCPT": b"550 5.1.1 unknown\r\n", "DATA": b"354 go on\r\n", "dot": answer}
    async with ScriptedServer(polite(answers)) as server:
        connection = await opened(server)
        assert await connection.send(to(), before_data=nothing) == Replied("rcpt", 550, "5.1.1 unknown", "5.1.1")
        assert server.peers[0].contents == [b".\r\n"]
        assert connection.usable is usable
        await connection.quit()


@pytest.mark.parametrize(
    ("transaction", "line"),
    [
        (to(b"abc\r\n"), b"MAIL FROM:<bounce@sender.example> SIZE=5"),
        (to(b"\xe4\r\n"), b"MAIL FROM:<bounce@sender.example> SIZE=3 BODY=8BITMIME"),
        (to(b"abc\r\n", smtputf8=True), b"MAIL FROM:<bounce@sender.example> SIZE=5 SMTPUTF8"),
        (to(b"abc\r\n", rcpt_to="用户@例え.example"), b"MAIL FROM:<bounce@sender.example> SIZE=5 SMTPUTF8"),
    ],
)
async def test_mail_says_what_the_server_must_know(transaction: Transaction, line: bytes) -> None:
    async with ScriptedServer(polite()) as server:
        await send(server, transaction)
        _, mail, rcpt, *_ = server.peers[0].commands
    assert mail == line
    assert rcpt == f"RCPT TO:<{transaction.rcpt_to}>".encode()


@pytest.mark.parametrize(
    ("transaction", "missing"),
    [(to(b"\xe4\r\n"), "8BITMIME"), (to(smtputf8=True), "SMTPUTF8"), (to(rcpt_to="ü@x.example"), "SMTPUTF8")],
)
async def test_what_the_server_cannot_take_is_not_sent(transaction: Transaction, missing: str) -> None:
    async with ScriptedServer(polite(offers=())) as server:
        assert await send(server, transaction) == [Broken("mail", "unsupported", missing)]
        assert [command[:4] for command in server.peers[0].commands] == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize(
    ("offer", "fits"), [("SIZE 10", False), ("SIZE 11", True), ("SIZE 0", True), ("SIZE", True), ("SIZE many", True)]
)
async def test_a_mail_above_the_servers_limit_is_refused_here(offer: str, fits: bool) -> None:
    async with ScriptedServer(polite(offers=(offer,))) as server:
        (result,) = await send(server, to(b"123456789\r\n"))
        assert isinstance(result, Replied)
        assert result.accepted is fits
        if not fits:
            assert (result.phase, result.code, result.enhanced) == ("mail", 552, "5.3.4")
            assert result.text.startswith("sluice: ")
            assert [command[:4] for command in server.peers[0].commands] == [b"EHLO", b"QUIT"]


async def test_replies_may_come_in_any_pieces() -> None:
    async def dribble(peer: Peer) -> None:
        for byte in b"250-2.0.0 first\r\n250-2.0.0 second\n250 2.0.0 third\r\n":
            await peer.say(bytes([byte]))
            await asyncio.sleep(0)

    async with ScriptedServer(polite({"dot": dribble})) as server:
        assert await send(server, to()) == [Replied("dot", 250, "2.0.0 first 2.0.0 second 2.0.0 third", "2.0.0")]


async def test_a_server_that_knows_no_ehlo_gets_helo() -> None:
    async with ScriptedServer(polite({"EHLO": b"502 what?\r\n", "HELO": b"250 hello\r\n"})) as server:
        (result,) = await send(server, to())
        assert isinstance(result, Replied)
        assert result.accepted
        assert server.peers[0].commands[:2] == [b"EHLO out.sender.example", b"HELO out.sender.example"]
