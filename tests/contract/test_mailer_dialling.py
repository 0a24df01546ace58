"""Finding and calling the server: names, addresses, calls that nobody takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvloop
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.adapters.smtp.dialling import connect_to_first
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


@contextmanager
def silent(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port of an address that does not answer: a full backlog drops the call on Linux, as a firewall would."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((host, port))
        full.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@pytest.mark.parametrize("within", [0.1, None])
async def test_a_host_that_does_not_answer_the_call(within: float | None) -> None:
    with silent() as port:
        mailer = SmtpMailer(BRIEF if within is None else QUICK)
        result = await mailer.connect(Hop(host="127.0.0.1", port=port, ehlo="x", connect_within=within))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("connect", "timeout")


def both_loops(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[str], None]:
    """uvloop connects by code of its own."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def on_each(loop: str) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
            runner.run(test())

    return on_each


@both_loops
async def test_a_silent_address_does_not_hold_up_the_next_one() -> None:
    async with ScriptedServer(polite()) as server:
        with silent("127.0.0.2", server.port):
            async with asyncio.timeout(5):
                channel, address = await connect_to_first(["127.0.0.2", "127.0.0.1"], server.port, stagger=0.05)
    assert address == "127.0.0.1"
    channel.abort()


@both_loops
async def test_an_address_that_refuses_is_left_at_once() -> None:
    async with ScriptedServer(polite()) as server:
        async with asyncio.timeout(5):
            channel, address = await connect_to_first(["127.0.0.2", "127.0.0.1"], server.port, stagger=60)
    assert address == "127.0.0.1"
    channel.abort()


@both_loops
async def test_the_first_address_is_taken_where_it_answers_in_time() -> None:
    async with ScriptedServer(polite()) as server:
        channel, address = await connect_to_first(["127.0.0.1", "127.0.0.2"], server.port, stagger=60)
        assert address == "127.0.0.1"
        channel.abort()
        assert len(server.peers) <= 1


@both_loops
async def test_of_two_that_answer_at_once_one_is_kept() -> None:
    open_calls: list[Peer] = []

    async def count(peer: Peer) -> None:
        open_calls.append(peer)
        try:
            await polite()(peer)
        finally:
            open_calls.remove(peer)

    async with ScriptedServer(count) as one, ScriptedServer(count, host="127.0.0.2", port=one.port) as two:
        channel, address = await connect_to_first(["127.0.0.1", "127.0.0.2"], one.port, stagger=0)
        assert (await channel.reply(5)).code == 220
        async with asyncio.timeout(5):
            while len(open_calls) != 1:  # noqa: ASYNC110  there is nothing to be told by
                await asyncio.sleep(0)
        kept = one if address == "127.0.0.1" else two
        assert open_calls == kept.peers
        channel.abort()


@both_loops
async def test_when_no_address_answers_the_failure_is_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect_to_first(["127.0.0.1", "127.0.0.2"], unused.getsockname()[1])


async def test_a_hosts_addresses_are_raced_with_the_families_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "relay.example"
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.3", "127.0.0.2", "127.0.0.4", "::1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with ScriptedServer(polite(), host="127.0.0.4") as server:
        with silent("127.0.0.3", server.port):
            connection = await SmtpMailer(QUICK).connect(Hop(host="relay.example", port=server.port, ehlo="x"))
        assert isinstance(connection, SmtpConnection)
        assert connection.address == "127.0.0.4"
        await connection.quit()


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
