"""Connections between mails, as a server sees them: reused, given up politely, and no blame when it closes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.support.deliver import Worker, rules_with
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.adapters.smtp.mailer import SmtpMailer
from sluice.ports.mailer import Timeouts

QUICK = Timeouts(connect=10, command=10, data=10, dot=10, quit=5)
WITHIN_S = 60.0


def worker_to(server: ScriptedServer, **site: Any) -> Worker:
    return Worker(
        mailer=cast("Any", SmtpMailer(QUICK)),
        rules=rules_with(**{"rate": None, "connect_rate": None, "connections": 1, **site}),
        routes=f"*=smtp://127.0.0.1:{server.port}?tls=none",
        patience=1e9,
    )


async def until(what: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not what():  # noqa: ASYNC110  the server's side tells nobody
            await asyncio.sleep(0.002)


async def deliver(worker: Worker, *names: str) -> None:
    """Bring mails in and wait until they are done."""
    done = len(worker.done) + len(names)
    await worker.take(*(worker.record(worker.envelope(name)) for name in names))
    async with asyncio.timeout(WITHIN_S):
        while len(worker.done) < done:
            await worker.clock.advance(0.01)
            await asyncio.sleep(0.001)


def quits(server: ScriptedServer) -> list[bool]:
    """Of each connection in turn, whether it ended in QUIT."""
    return [b"QUIT" in peer.commands for peer in server.peers]


async def test_a_connection_takes_as_many_mails_as_the_site_allows_and_is_then_given_up_politely() -> None:
    async with ScriptedServer(polite()) as server:
        worker = worker_to(server, mails_per_connection=3)
        await deliver(worker, *(f"m{number}" for number in range(7)))
        assert [len(peer.contents) for peer in server.peers] == [3, 3, 1]
        assert quits(server)[:2] == [True, True]
        await worker.close()
        await until(lambda: quits(server) == [True, True, True])


async def test_an_idle_connection_is_kept_for_the_next_mail_and_given_up_when_its_time_is_over() -> None:
    """Ten seconds, by the site's rule."""
    async with ScriptedServer(polite()) as server:
        worker = worker_to(server, idle=10.0)
        await deliver(worker, "m0")
        await worker.clock.advance(9.0)
        worker.handler.sweep()
        await deliver(worker, "m1")
        assert [len(peer.contents) for peer in server.peers] == [2]
        await worker.clock.advance(9.0)
        worker.handler.sweep()
        await worker.settle()
        assert quits(server) == [False]
        await worker.clock.advance(1.0)
        worker.handler.sweep()
        await until(lambda: quits(server) == [True])
        await until(lambda: worker.senders.connections == 0)


async def closed_between(worker: Worker, server: ScriptedServer, close: Any) -> None:
    """Two mails, between which the server closes: both delivered at the first attempt, and nobody blamed."""
    await deliver(worker, "m0")
    await close(server.peers[0])
    await deliver(worker, "m1")
    assert [len(peer.contents) for peer in server.peers] == [1, 1]
    assert [outcome.event_type for outcome in worker.outcomes()].count("delivered") == 2
    assert [outcome.attempt for outcome in worker.outcomes("delivered")] == [1, 1]
    assert worker.outcomes("deferred") == []
    (lane,) = worker.handler.lanes.values()
    state = lane.state(worker.clock.now(), "")
    assert (state.failed_connects, state.paused_until, state.pressure.share) == (0, 0.0, 1.0)
    await worker.close()


async def test_a_server_that_closes_an_idle_connection_without_a_word_is_called_again() -> None:
    async def close(peer: Peer) -> None:
        peer.cut()

    async with ScriptedServer(polite()) as server:
        await closed_between(worker_to(server), server, close)


async def test_a_server_that_says_421_to_an_idle_connection_is_called_again() -> None:
    """It is its way of saying goodbye, not a request for less."""

    async def close(peer: Peer) -> None:
        await peer.say(b"421 4.4.2 mx.example idle for too long\r\n")
        peer.writer.close()

    async with ScriptedServer(polite()) as server:
        await closed_between(worker_to(server), server, close)


async def test_a_server_that_closes_as_the_next_mail_begins_is_called_again() -> None:
    """Its goodbye and our MAIL met on the way."""
    answers: dict[str, Any] = {}

    async def goodbye(peer: Peer) -> None:
        del answers["MAIL"]
        peer.cut()

    async def close(_: Peer) -> None:
        answers["MAIL"] = goodbye

    async with ScriptedServer(polite(answers, offers=("8BITMIME",))) as server:
        await closed_between(worker_to(server), server, close)


async def test_a_server_that_closes_at_rset_is_called_again() -> None:
    """After a refusal the next mail begins with RSET."""
    answers: dict[str, Any] = {"RCPT": b"550 5.1.1 nobody here\r\n", "RSET": _cut}
    async with ScriptedServer(polite(answers, offers=("8BITMIME",))) as server:
        worker = worker_to(server)
        await deliver(worker, "m0")
        del answers["RCPT"]
        await deliver(worker, "m1")
        assert [len(peer.contents) for peer in server.peers] == [0, 1]
        assert [(o.message_id, o.attempt) for o in worker.outcomes("delivered")] == [("m1", 1)]
        assert worker.outcomes("deferred") == []
        await worker.close()


async def test_the_place_of_a_connection_that_the_server_closed_is_given_back() -> None:
    """Within a second, not after the whole time that an idle one is kept."""
    async with ScriptedServer(polite()) as server:
        worker = worker_to(server, idle=600.0)
        await deliver(worker, "m0")
        assert worker.senders.connections == 1
        server.peers[0].cut()
        connection = next(iter(next(iter(worker.handler.lanes.values())).slots.idle)).connection
        await until(lambda: connection is None or not connection.usable)
        worker.handler.sweep()
        await until(lambda: worker.senders.connections == 0)


async def _cut(peer: Peer) -> None:
    peer.cut()
