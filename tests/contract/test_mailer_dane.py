"""Connections held to TLSA records, and to MTA-STS in earnest and in testing."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop
from tests.support.scripted_smtp import OFFERS, Peer, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.dane import DaneHost, Tlsa, public_key
from sluice.domain.smtp import Broken, Replied
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\nbody\r\n")
NAME = "mx.receiver.example"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Shown:
    """A server's certificates: its own, an intermediate authority's, the root's."""

    def __init__(self, *names: str, expired: bool = False) -> None:
        self.root = trustme.CA()
        middle = self.root.create_child_ca()
        leaf = middle.issue_cert(*names, not_after=LONG_AGO if expired else None)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self.context)
        self.chain = [ssl.PEM_cert_to_DER_cert(blob.bytes().decode()) for blob in leaf.cert_chain_pems]
        self.chain = [*self.chain[:1], _der(middle), _der(self.root)]
        self.asked_for: list[str | None] = []
        self.context.sni_callback = lambda _socket, name, _context: self.asked_for.append(name)  # type: ignore[assignment]


def _der(authority: trustme.CA) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown(NAME)


def record(usage: int, selector: int, matching: int, certificate: bytes) -> Tlsa:
    selected = public_key(certificate) if selector else certificate
    digest = {0: lambda data: data, 1: lambda d: hashlib.sha256(d).digest(), 2: lambda d: hashlib.sha512(d).digest()}
    return Tlsa(usage, selector, matching, digest[matching](selected))


def hop(server: ScriptedServer, *records: Tlsa, names: tuple[str, ...] = (NAME,), base: str = NAME) -> Hop:
    dane = DaneHost(base, records, names)
    return Hop(host="alias.example", address="127.0.0.1", port=server.port, ehlo="x", tls="dane", dane=dane)


async def nothing() -> None:
    """No ledger."""


async def delivered(connection: object) -> bool:
    assert isinstance(connection, SmtpConnection), connection
    result = await connection.send(MAIL, before_data=nothing)
    await connection.quit()
    return isinstance(result, Replied) and result.accepted


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("depth", [0, 1])
async def test_a_record_of_the_server_or_of_its_authority_is_enough(
    shown: Shown, depth: int, selector: int, matching: int
) -> None:
    usage = 3 if depth == 0 else 2
    async with ScriptedServer(polite(context=shown.context)) as server:
        connection = await SmtpMailer(QUICK).connect(hop(server, record(usage, selector, matching, shown.chain[depth])))
        assert isinstance(connection, SmtpConnection), connection
        assert connection.tls.policy == "dane"
        assert connection.tls.version
        assert await delivered(connection)
    assert shown.asked_for[-1] == NAME


async def test_an_authority_that_the_server_does_not_show_can_stand_in_the_record(shown: Shown) -> None:
    async with ScriptedServer(polite(context=shown.context)) as server:
        assert await delivered(await SmtpMailer(QUICK).connect(hop(server, record(2, 0, 0, shown.chain[2]))))


async def test_one_record_of_several_is_enough(shown: Shown) -> None:
    another = Shown(NAME)
    records = [record(3, 1, 1, another.chain[0]), record(2, 0, 1, another.chain[1]), record(3, 0, 2, shown.chain[0])]
    async with ScriptedServer(polite(context=shown.context)) as server:
        assert await delivered(await SmtpMailer(QUICK).connect(hop(server, *records)))


async def refusal(shown: Shown, *records: Tlsa, names: tuple[str, ...] = (NAME,)) -> str:
    async with ScriptedServer(polite(context=shown.context)) as server:
        result = await SmtpMailer(QUICK).connect(hop(server, *records, names=names))
        assert [command[:8] for command in server.peers[0].commands] == [b"EHLO x", b"STARTTLS"]
        assert len(server.peers) == 1
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("starttls", "tls")
    assert result.detail.startswith("dane: ")
    return result.detail


@pytest.mark.parametrize(("usage", "depth"), [(3, 0), (2, 1)])
async def test_another_servers_record_refuses(shown: Shown, usage: int, depth: int) -> None:
    assert "no TLSA record matches" in await refusal(shown, record(usage, 1, 1, Shown(NAME).chain[depth]))


async def test_a_record_of_the_server_says_nothing_of_its_authority(shown: Shown) -> None:
    await refusal(shown, record(3, 1, 1, shown.chain[1]))
    await refusal(shown, record(2, 1, 1, shown.chain[0]))


async def test_an_authority_that_did_not_sign_the_server_is_none(shown: Shown) -> None:
    """The record's certificate is shown in the chain, and has nothing to do with the server's."""
    stranger = trustme.CA()
    false = Shown(NAME)
    leaf = trustme.CA().issue_cert(NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.cert_chain_pems.append(stranger.cert_pem)
    leaf.configure_cert(context)
    false.context = context
    await refusal(false, record(2, 0, 1, _der(stranger)))
    await refusal(shown, record(2, 0, 0, _der(stranger)))


async def test_under_an_authority_names_and_dates_count_for_the_server_itself_they_do_not() -> None:
    elsewhere, old = Shown("elsewhere.example"), Shown(NAME, expired=True)
    assert "subjectAltName" in await refusal(elsewhere, record(2, 1, 1, elsewhere.chain[1]))
    await refusal(old, record(2, 1, 1, old.chain[1]))
    for other in (elsewhere, old):
        async with ScriptedServer(polite(context=other.context)) as server:
            assert await delivered(await SmtpMailer(QUICK).connect(hop(server, record(3, 1, 1, other.chain[0]))))


async def test_any_of_the_names_will_do() -> None:
    wide = Shown("*.receiver.example")
    async with ScriptedServer(polite(context=wide.context)) as server:
        names = ("receiver.example", "a.receiver.example")
        connection = await SmtpMailer(QUICK).connect(hop(server, record(2, 1, 1, wide.chain[1]), names=names))
        assert await delivered(connection)


async def test_dane_never_goes_on_without_tls() -> None:
    async def not_tls(peer: Peer) -> None:
        await peer.say(b"220 go on\r\nI do not speak TLS at all\r\n")
        peer.writer.close()

    for script in (
        polite(),
        polite({"STARTTLS": b"454 not now\r\n"}, offers=(*OFFERS, "STARTTLS")),
        polite({"STARTTLS": not_tls}, offers=(*OFFERS, "STARTTLS")),
    ):
        async with ScriptedServer(script) as server:
            result = await SmtpMailer(QUICK).connect(hop(server, Tlsa(3, 1, 1, b"x" * 32)))
            assert isinstance(result, Broken | Replied)
            assert result.phase == "starttls"
            assert len(server.peers) == 1


async def test_dane_without_records_authenticates_nobody(shown: Shown) -> None:
    await refusal(shown)


def test_the_certificates_are_found_on_uvloop_too(shown: Shown) -> None:
    async def converse() -> bool:
        async with ScriptedServer(polite(context=shown.context)) as server:
            return await delivered(await SmtpMailer(QUICK).connect(hop(server, record(2, 1, 1, shown.chain[1]))))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(converse())


@pytest.fixture
def trusting(shown: Shown, tmp_path: Path) -> SmtpMailer:
    """A mailer that trusts the servers' root."""
    shown.root.cert_pem.write_to_path(tmp_path / "ca.pem")
    return SmtpMailer(QUICK, ca_file=str(tmp_path / "ca.pem"))


async def test_mta_sts_verifies(trusting: SmtpMailer, shown: Shown) -> None:
    async with ScriptedServer(polite(context=shown.context)) as server:
        good = Hop(host=NAME, address="127.0.0.1", port=server.port, ehlo="x", tls="mta_sts")
        connection = await trusting.connect(good)
        assert isinstance(connection, SmtpConnection)
        assert connection.tls.policy == "mta_sts"
        assert await delivered(connection)
        result = await SmtpMailer(QUICK).connect(good)
    assert isinstance(result, Broken)
    assert (result.phase, result.reason, result.detail[:9]) == ("starttls", "tls", "mta_sts: ")
    async with ScriptedServer(polite()) as server:
        bare = Hop(host=NAME, address="127.0.0.1", port=server.port, ehlo="x", tls="mta_sts")
        assert await trusting.connect(bare) == Broken("starttls", "tls", "mta_sts: the server offers no STARTTLS")


async def test_testing_reports_nothing_where_all_is_well(trusting: SmtpMailer, shown: Shown) -> None:
    async with ScriptedServer(polite(context=shown.context)) as server:
        tested = Hop(host=NAME, address="127.0.0.1", port=server.port, ehlo="x", tls_testing=True)
        connection = await trusting.connect(tested)
        assert isinstance(connection, SmtpConnection)
        assert (connection.tls.policy, connection.tls.failure) == ("opportunistic", None)
        assert await delivered(connection)
        assert len(server.peers) == 1


async def test_testing_delivers_and_reports_a_certificate_that_cannot_be_verified(shown: Shown) -> None:
    now = [0.0]
    mailer = SmtpMailer(QUICK, now=lambda: now[0])
    async with ScriptedServer(polite(context=shown.context)) as server:
        tested = Hop(host=NAME, address="127.0.0.1", port=server.port, ehlo="x", tls="required", tls_testing=True)
        for connections in (2, 3):  # the second time it is known
            connection = await mailer.connect(tested)
            assert isinstance(connection, SmtpConnection)
            assert connection.tls.policy == "required"
            assert connection.tls.version
            assert connection.tls.failure
            assert connection.tls.failure.startswith("mta_sts: ")
            assert await delivered(connection)
            assert len(server.peers) == connections
        now[0] = 3_601.0
        assert await delivered(await mailer.connect(tested))
        assert len(server.peers) == 5


async def test_testing_delivers_and_reports_a_server_without_tls() -> None:
    async with ScriptedServer(polite()) as server:
        tested = Hop(host=NAME, address="127.0.0.1", port=server.port, ehlo="x", tls_testing=True)
        connection = await SmtpMailer(QUICK).connect(tested)
        assert isinstance(connection, SmtpConnection)
        assert connection.tls.version is None
        assert connection.tls.failure == "mta_sts: the server offers no STARTTLS"
        assert await delivered(connection)
