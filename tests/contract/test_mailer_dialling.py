"""Finding and calling the server: names, addresses, calls that nobody takes."""

from __future__ import annotations

import socket

import pytest
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.smtp import Broken, Replied
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
BRIEF = Timeouts(connect=0.1)
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\nbody\r\n")


async def nothing() -> None:
    """No ledger."""


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".example"])
async def test_a_host_without_an_address(host: str) -> None:
    result = await SmtpMailer(QUICK).connect(Hop(host=host, ehlo="x"))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("connect", "dns")


async def test_a_host_that_does_not_answer_the_call() -> None:
    """A full backlog drops the call on Linux, as a firewall would."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        callers = []
        for _ in range(4):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(address)
            callers.append(caller)
        result = await SmtpMailer(BRIEF).connect(Hop(host="127.0.0.1", port=address[1], ehlo="x"))
        for caller in callers:
            caller.close()
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("connect", "timeout")


async def test_the_source_address_is_used() -> None:
    seen: list[str] = []

    async def look(peer: Peer) -> None:
        seen.append(peer.writer.get_extra_info("peername")[0])
        await polite()(peer)

    async with ScriptedServer(look) as server:
        connection = await SmtpMailer(QUICK).connect(
            Hop(host="127.0.0.1", port=server.port, ehlo="x", source_address="127.0.0.2")
        )
        assert isinstance(connection, SmtpConnection)
        await connection.quit()
    assert seen == ["127.0.0.2"]


@pytest.mark.parametrize("source", ["192.0.2.77", "::1"])
async def test_a_source_address_that_cannot_be_used_is_our_own_fault(source: str) -> None:
    async with ScriptedServer(polite()) as server:
        result = await SmtpMailer(QUICK).connect(
            Hop(host="127.0.0.1", port=server.port, ehlo="x", source_address=source)
        )
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("connect", "unsupported")


async def test_ipv6() -> None:
    try:
        server = await ScriptedServer(polite(), host="::1").__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    try:
        connection = await SmtpMailer(QUICK).connect(Hop(host="::1", port=server.port, ehlo="x"))
        assert isinstance(connection, SmtpConnection)
        assert connection.address == "::1"
        assert (await connection.send(MAIL, before_data=nothing)) == Replied("dot", 250, "2.0.0 taken", "2.0.0")
        await connection.quit()
    finally:
        await server.__aexit__()
