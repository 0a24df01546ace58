"""Servers and networks that do what they should not."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.support.scripted_smtp import OFFERS, Peer, Script, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.smtp import Broken, Replied, Result, Unknown
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
BRIEF = Timeouts(connect=5, command=5, data=0.1, dot=0.1, quit=0.1)
PATIENCE = {
    "banner": Timeouts(connect=0.3),
    "EHLO": Timeouts(command=0.3),
    "MAIL": Timeouts(command=0.3),
    "RCPT": Timeouts(command=0.3),
    "DATA": Timeouts(data=0.1),
    "dot": Timeouts(dot=0.1),
}
"""Brief only where the silence is, so that a busy machine is not taken for a silent server."""
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\nbody\r\n")
PHASES = {"banner": "banner", "EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "dot": "dot"}


async def nothing() -> None:
    """No ledger."""


def hop(server: ScriptedServer) -> Hop:
    return Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.sender.example", tls="none")


async def attempt(script: Script, timeouts: Timeouts = QUICK, mail: Transaction = MAIL) -> Result:
    """One connection, one mail; a connection that failed is never usable."""
    async with ScriptedServer(script) as server:
        connection = await SmtpMailer(timeouts).connect(hop(server))
        if not isinstance(connection, SmtpConnection):
            return connection
        result = await connection.send(mail, before_data=nothing)
        if not isinstance(result, Replied):
            assert not connection.usable
        await connection.quit()
        return result


def told(result: Result) -> tuple[str, str]:
    """The phase and reason of a failure; after the dot it must be in doubt."""
    if isinstance(result, Unknown):
        return "dot", result.reason
    assert isinstance(result, Broken), result
    assert result.phase != "dot"
    return result.phase, result.reason


async def endless_lines(peer: Peer) -> None:
    while True:
        await peer.say(b"250-and another thing\r\n" * 100)


async def endless_line(peer: Peer) -> None:
    while True:
        await peer.say(b"2" * 20_000)


async def cut(peer: Peer) -> None:
    peer.cut()


async def cut_inside_a_reply(peer: Peer) -> None:
    await peer.say(b"250-this is not the e")
    peer.writer.close()


GARBAGE: dict[str, bytes | Script] = {
    "a line of 20 kB": b"250 " + b"x" * 20_000 + b"\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n",
    "an empty line": b"\r\n",
    "two codes in one reply": b"250-fine\r\n550 or not\r\n",
    "a code beyond": b"650 hm\r\n",
    "no code": b"ok\r\n",
    "no end": endless_lines,
    "no line end": endless_line,
}


@pytest.mark.parametrize("moment", PHASES)
@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_for_a_reply(moment: str, kind: str) -> None:
    assert told(await attempt(polite({moment: GARBAGE[kind]}))) == (PHASES[moment], "garbage")


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("moment", PHASES)
@pytest.mark.parametrize("how", [cut, cut_inside_a_reply])
async def test_a_connection_that_ends(moment: str, how: Script, offers: tuple[str, ...]) -> None:
    assert told(await attempt(polite({moment: how}, offers=offers))) == (PHASES[moment], "disconnected")


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("moment", PHASES)
async def test_a_server_that_falls_silent(moment: str, offers: tuple[str, ...]) -> None:
    result = await attempt(polite({moment: Peer.gone}, offers=offers), PATIENCE[moment])
    assert told(result) == (PHASES[moment], "timeout")


@pytest.mark.parametrize("moment", PHASES)
async def test_421_is_heard_at_every_moment(moment: str) -> None:
    result = await attempt(polite({moment: b"421 4.3.2 closing\r\n"}))
    assert result == Replied(PHASES[moment], 421, "4.3.2 closing", "4.3.2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "answer"),
    [
        ("MAIL", b"354 what?\r\n"),
        ("RCPT", b"334 \r\n"),
        ("DATA", b"250 ok\r\n"),
        ("dot", b"354 more\r\n"),
        ("banner", b"250 hi\r\n"),
    ],
)
async def test_a_code_that_has_no_meaning_here(moment: str, answer: bytes) -> None:
    assert told(await attempt(polite({moment: answer}))) == (PHASES[moment], "garbage")


async def test_a_reply_too_many_is_not_taken_for_the_next_one() -> None:
    """Else the mail after this one would be called delivered before it was sent."""
    async with ScriptedServer(polite({"dot": b"250 ok\r\n250 ok\r\n"})) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        assert await connection.send(MAIL, before_data=nothing) == Replied("dot", 250, "ok")
        assert not connection.usable
        again = await connection.send(MAIL, before_data=nothing)
        assert told(again) == ("mail", "disconnected")


async def test_a_yes_before_the_content_is_no_yes() -> None:
    assert told(await attempt(polite({"DATA": b"354 go on\r\n250 taken\r\n"}))) == ("data", "garbage")


async def test_a_server_that_says_goodbye_while_idle() -> None:
    bye = asyncio.Event()

    async def taken_and_bored(peer: Peer) -> None:
        await peer.say(b"250 taken\r\n")
        await bye.wait()
        await peer.say(b"421 4.4.2 idle\r\n")
        peer.writer.close()

    async with ScriptedServer(polite({"dot": taken_and_bored})) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        await connection.send(MAIL, before_data=nothing)
        assert connection.usable
        bye.set()
        async with asyncio.timeout(5):
            while connection.usable:  # noqa: ASYNC110  there is nothing to be told by
                await asyncio.sleep(0)
        assert told(await connection.send(MAIL, before_data=nothing)) == ("mail", "disconnected")


BIG = Transaction(mail_from=MAIL.mail_from, rcpt_to=MAIL.rcpt_to, content=b"x" * 998 + b"\r\n" + b"y\r\n" * 10_000_000)


async def test_a_server_that_stops_reading_has_no_mail() -> None:
    """The final dot never left: certain, not in doubt."""

    async def deaf(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    script = polite({"DATA": deaf}, offers=("PIPELINING",))
    assert told(await attempt(script, BRIEF, BIG)) == ("data", "timeout")


async def test_a_dot_that_waits_in_our_own_buffer_was_not_sent() -> None:
    """Also when all that is left would fit into the loop's buffer."""

    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.say(b"354 go on\r\n")
        await asyncio.Event().wait()

    async with ScriptedServer(polite({"DATA": deaf}), receive_buffer=2_048) as server:
        connection = await SmtpMailer(BRIEF).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        ours = connection._channel.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
        mail = Transaction(mail_from=MAIL.mail_from, rcpt_to=MAIL.rcpt_to, content=b"z\r\n" * 20_000)
        assert told(await connection.send(mail, before_data=nothing)) == ("data", "timeout")


async def test_each_wait_has_its_own_length() -> None:
    """A short timeout holds behind long ones, and a long one behind short ones."""
    long_then_short = Timeouts(connect=60, command=60, data=60, dot=0.1, quit=1)
    assert told(await attempt(polite({"dot": Peer.gone}), long_then_short)) == ("dot", "timeout")

    async def slow(peer: Peer) -> None:
        await asyncio.sleep(0.3)
        await peer.say(b"250 ok\r\n")

    short_then_long = Timeouts(connect=0.2, command=0.2, data=0.2, dot=5, quit=1)
    assert await attempt(polite({"dot": slow}), short_then_long) == Replied("dot", 250, "ok")


async def test_a_ledger_that_cannot_write_hangs_up_at_once() -> None:
    hung_up = asyncio.Event()

    async def data(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        assert await peer.reader.read() == b""
        hung_up.set()

    async def failing() -> None:
        raise ValueError("no broker")

    async with ScriptedServer(polite({"DATA": data})) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        with pytest.raises(ValueError, match="no broker"):
            await connection.send(MAIL, before_data=failing)
        async with asyncio.timeout(5):
            await hung_up.wait()


async def test_a_server_that_leaves_in_the_middle_of_the_content_has_no_mail() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        await peer.reader.readexactly(100_000)
        peer.cut()

    assert told(await attempt(polite({"DATA": hasty}, offers=()), QUICK, BIG)) == ("data", "disconnected")


async def test_a_refusal_in_the_middle_of_the_content_is_heard() -> None:
    async def full(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        await peer.reader.readexactly(100_000)
        await peer.say(b"552 5.3.4 enough\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    result = await attempt(polite({"DATA": full}, offers=()), QUICK, BIG)
    assert result == Replied("data", 552, "5.3.4 enough", "5.3.4")


async def test_a_big_mail_arrives_whole() -> None:
    async def swallow(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        size, tail = 0, b""
        while tail != b"\r\n.\r\n":
            data = await peer.reader.read(1 << 20)
            size, tail = size + len(data), (tail + data)[-5:]
        await peer.say(f"250 {size}\r\n".encode())

    assert await attempt(polite({"DATA": swallow}, offers=()), QUICK, BIG) == Replied("dot", 250, str(30_001_003))


async def test_quit_does_not_wait_for_ever() -> None:
    async with ScriptedServer(polite({"QUIT": Peer.gone})) as server:
        connection = await SmtpMailer(BRIEF).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        async with asyncio.timeout(2):
            await connection.quit()
        assert not connection.usable


async def test_a_cancelled_transaction_leaves_no_usable_connection() -> None:
    async with ScriptedServer(polite({"dot": Peer.gone})) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.send(MAIL, before_data=nothing)
        assert not connection.usable


async def test_a_failure_while_cleaning_up_does_not_hide_the_refusal() -> None:
    answers = {"RCPT": b"550 5.1.1 unknown\r\n", "DATA": cut}
    async with ScriptedServer(polite(answers)) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server))
        assert isinstance(connection, SmtpConnection)
        assert await connection.send(MAIL, before_data=nothing) == Replied("rcpt", 550, "5.1.1 unknown", "5.1.1")
        assert not connection.usable
