"""TLS by policy, and authentication behind it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from tests.support.scripted_smtp import OFFERS, Peer, Script, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.channel import Channel
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.adapters.smtp.greeting import Greeter
from sluice.domain.smtp import Broken, Replied, TlsPolicy
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\n.body\r\n")
NAME = "mx.receiver.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """The server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    return context


@pytest.fixture
def mailer(authority: trustme.CA, tmp_path: Path) -> SmtpMailer:
    """Trusts the test's authority."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return SmtpMailer(QUICK, ca_file=str(tmp_path / "ca.pem"))


def hop(server: ScriptedServer, tls: TlsPolicy, *, host: str = NAME, **more: object) -> Hop:
    return Hop(host=host, address="127.0.0.1", port=server.port, ehlo="x", tls=tls, **more)  # type: ignore[arg-type]


async def nothing() -> None:
    """No ledger."""


async def delivered(connection: object) -> bool:
    assert isinstance(connection, SmtpConnection), connection
    result = await connection.send(MAIL, before_data=nothing)
    await connection.quit()
    return isinstance(result, Replied) and result.accepted


@pytest.mark.parametrize("policy", ["opportunistic", "required", "verified"])
async def test_starttls_protects_the_mail(mailer: SmtpMailer, context: ssl.SSLContext, policy: TlsPolicy) -> None:
    async with ScriptedServer(polite(context=context)) as server:
        connection = await mailer.connect(hop(server, policy))
        assert isinstance(connection, SmtpConnection)
        assert connection.tls.policy == policy
        assert connection.tls.version in ("TLSv1.2", "TLSv1.3")
        assert connection.tls.cipher
        assert await delivered(connection)
        assert server.peers[0].contents == [b"Subject: x\r\n\r\n..body\r\n.\r\n"]
        verbs = [command[:8].split()[0] for command in server.peers[0].commands]
        assert verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


async def test_mails_in_one_write_are_protected_too(mailer: SmtpMailer, context: ssl.SSLContext) -> None:
    async with ScriptedServer(polite(offers=("PIPELINING", "CHUNKING"), context=context)) as server:
        connection = await mailer.connect(hop(server, "verified"))
        assert isinstance(connection, SmtpConnection)
        await connection.send(MAIL, before_data=nothing)
        assert await delivered(connection)
        assert server.peers[0].commands[-2].startswith(b"BDAT ")
        assert server.peers[0].contents[-1] == MAIL.content


async def test_policy_none_does_not_try(mailer: SmtpMailer, context: ssl.SSLContext) -> None:
    async with ScriptedServer(polite(context=context)) as server:
        connection = await mailer.connect(hop(server, "none"))
        assert await delivered(connection)
        assert b"STARTTLS" not in server.peers[0].commands


@pytest.mark.parametrize("policy", ["opportunistic", "required"])
async def test_without_verification_any_certificate_will_do(context: ssl.SSLContext, policy: TlsPolicy) -> None:
    async with ScriptedServer(polite(context=context)) as server:
        assert await delivered(await SmtpMailer(QUICK).connect(hop(server, policy, host="another.example")))


async def test_verified_wants_the_name(mailer: SmtpMailer, context: ssl.SSLContext) -> None:
    async with ScriptedServer(polite(context=context)) as server:
        result = await mailer.connect(hop(server, "verified", host="another.example"))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("starttls", "tls")


async def test_verified_wants_an_authority_that_is_trusted(context: ssl.SSLContext) -> None:
    async with ScriptedServer(polite(context=context)) as server:
        result = await SmtpMailer(QUICK).connect(hop(server, "verified"))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("starttls", "tls")


@pytest.mark.parametrize("policy", ["required", "verified"])
async def test_required_means_required(mailer: SmtpMailer, policy: TlsPolicy) -> None:
    async with ScriptedServer(polite()) as server:
        result = await mailer.connect(hop(server, policy))
    assert result == Broken("starttls", "tls", "the server offers no STARTTLS")


async def test_opportunistic_goes_on_where_starttls_is_refused(mailer: SmtpMailer) -> None:
    answers: dict[str, bytes | Script] = {"STARTTLS": b"454 4.7.0 not now\r\n"}
    async with ScriptedServer(polite(answers, offers=(*OFFERS, "STARTTLS"))) as server:
        assert await delivered(await mailer.connect(hop(server, "opportunistic")))
        assert len(server.peers) == 1
        refused = await mailer.connect(hop(server, "required"))
    assert refused == Replied("starttls", 454, "4.7.0 not now", "4.7.0")


async def _no_handshake(peer: Peer) -> None:
    await peer.say(b"220 go on\r\n")
    await peer.reader.read(100)
    await peer.say(b"I do not speak TLS at all\r\n")
    peer.writer.close()


async def test_opportunistic_falls_back_once_and_remembers(context: ssl.SSLContext) -> None:
    now = [0.0]
    mailer = SmtpMailer(QUICK, now=lambda: now[0])
    broken = polite({"STARTTLS": _no_handshake}, offers=(*OFFERS, "STARTTLS"))
    async with ScriptedServer(broken) as server:
        connection = await mailer.connect(hop(server, "opportunistic"))
        assert isinstance(connection, SmtpConnection)
        assert connection.tls.version is None
        assert await delivered(connection)
        assert len(server.peers) == 2
        assert (connection.tls.failure or "").startswith("starttls: ")
        remembering = await mailer.connect(hop(server, "opportunistic"))
        assert isinstance(remembering, SmtpConnection)
        assert remembering.tls.failure == connection.tls.failure
        assert await delivered(remembering)
        assert len(server.peers) == 3
        now[0] = 3_601.0
        assert await delivered(await mailer.connect(hop(server, "opportunistic")))
        assert len(server.peers) == 5


@pytest.mark.parametrize("policy", ["required", "verified"])
async def test_required_never_falls_back(mailer: SmtpMailer, policy: TlsPolicy) -> None:
    broken = polite({"STARTTLS": _no_handshake}, offers=(*OFFERS, "STARTTLS"))
    async with ScriptedServer(broken) as server:
        result = await mailer.connect(hop(server, policy))
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("starttls", "tls")
        assert len(server.peers) == 1


@pytest.mark.parametrize("injected", [b"250 PIPELINING\r\n", b"250-half a repl"])
@pytest.mark.parametrize("policy", ["opportunistic", "required"])
async def test_plaintext_behind_starttls_is_never_read_as_protected(
    mailer: SmtpMailer, context: ssl.SSLContext, injected: bytes, policy: TlsPolicy
) -> None:
    """CVE-2011-0411 and its kind."""

    async def inject(peer: Peer) -> None:
        await peer.say(b"220 go on\r\n" + injected)
        await peer.start_tls(context)

    async with ScriptedServer(polite({"STARTTLS": inject}, offers=(*OFFERS, "STARTTLS"))) as server:
        result = await mailer.connect(hop(server, policy))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("starttls", "garbage")


@pytest.mark.parametrize("policy", ["opportunistic", "verified"])
async def test_implicit_tls(mailer: SmtpMailer, context: ssl.SSLContext, policy: TlsPolicy) -> None:
    async with ScriptedServer(polite(), context=context) as server:
        connection = await mailer.connect(hop(server, policy, implicit_tls=True))
        assert isinstance(connection, SmtpConnection)
        assert connection.tls.version
        assert await delivered(connection)


async def test_implicit_tls_to_a_server_without_it(mailer: SmtpMailer) -> None:
    async with ScriptedServer(polite()) as server:
        result = await mailer.connect(hop(server, "opportunistic", implicit_tls=True))
        assert len(server.peers) == 1
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("connect", "tls")


async def test_a_silent_handshake_times_out(authority: trustme.CA) -> None:
    brief = Timeouts(connect=0.2, command=0.2, data=0.2, dot=0.2, quit=0.2)
    answers: dict[str, bytes | Script] = {"STARTTLS": b"220 go on\r\n", "dot": Peer.gone}

    async def silent(peer: Peer) -> None:
        await peer.say(b"220 go on\r\n")
        await peer.gone()

    answers["STARTTLS"] = silent
    async with ScriptedServer(polite(answers, offers=(*OFFERS, "STARTTLS"))) as server:
        result = await SmtpMailer(brief).connect(hop(server, "required"))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("starttls", "tls")


async def test_a_big_mail_over_tls(mailer: SmtpMailer, context: ssl.SSLContext) -> None:
    content = b"0123456789\r\n" * 500_000

    async def swallow(peer: Peer) -> None:
        await peer.say(b"354 go on\r\n")
        size, tail = 0, b""
        while tail != b"\r\n.\r\n":
            data = await peer.reader.read(1 << 20)
            size, tail = size + len(data), (tail + data)[-5:]
        await peer.say(f"250 {size}\r\n".encode())

    async with ScriptedServer(polite({"DATA": swallow}, offers=(), context=context)) as server:
        connection = await mailer.connect(hop(server, "verified"))
        assert isinstance(connection, SmtpConnection)
        big = Transaction(mail_from=MAIL.mail_from, rcpt_to=MAIL.rcpt_to, content=content)
        assert await connection.send(big, before_data=nothing) == Replied("dot", 250, str(len(content) + 3))
        await connection.quit()


PLAIN = "AUTH PLAIN AHVzZXIAc2VjcmV0"


@pytest.mark.parametrize("offer", ["AUTH PLAIN LOGIN", "AUTH=PLAIN"])
async def test_auth_plain_on_loopback(mailer: SmtpMailer, offer: str) -> None:
    answers: dict[str, bytes | Script] = {"AUTH": b"235 2.7.0 welcome\r\n"}
    async with ScriptedServer(polite(answers, offers=(offer,))) as server:
        assert await delivered(await mailer.connect(hop(server, "none", username="user", password="secret")))
        assert PLAIN.encode() in server.peers[0].commands


async def test_auth_login_over_tls(mailer: SmtpMailer, context: ssl.SSLContext) -> None:
    async def login(peer: Peer) -> None:
        await peer.say(b"334 VXNlcm5hbWU6\r\n")
        assert await peer.hear() == b"dXNlcg=="
        await peer.say(b"334 UGFzc3dvcmQ6\r\n")
        assert await peer.hear() == b"c2VjcmV0"
        await peer.say(b"235 welcome\r\n")

    async with ScriptedServer(polite({"AUTH": login}, offers=("AUTH LOGIN",), context=context)) as server:
        assert await delivered(await mailer.connect(hop(server, "verified", username="user", password="secret")))


async def test_wrong_credentials(mailer: SmtpMailer) -> None:
    answers: dict[str, bytes | Script] = {"AUTH": b"535 5.7.8 no\r\n"}
    async with ScriptedServer(polite(answers, offers=("AUTH PLAIN",))) as server:
        result = await mailer.connect(hop(server, "none", username="user", password="secret"))
    assert result == Replied("auth", 535, "5.7.8 no", "5.7.8")


async def test_a_relay_without_auth(mailer: SmtpMailer) -> None:
    async with ScriptedServer(polite()) as server:
        result = await mailer.connect(hop(server, "none", username="user", password="secret"))
    assert isinstance(result, Broken)
    assert (result.phase, result.reason) == ("auth", "unsupported")


async def test_credentials_never_leave_in_the_clear() -> None:
    async with ScriptedServer(polite(offers=("AUTH PLAIN",))) as server:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(Channel, "127.0.0.1", server.port)
        far = hop(server, "opportunistic", username="user", password="secret")
        greeter = Greeter(channel, far, QUICK, ssl.create_default_context(), address="198.51.100.7")
        result = await greeter.greet(starttls=True)
        channel.abort()
        assert result == Broken("auth", "tls", "credentials are given over TLS only")
        assert [command[:4] for command in server.peers[0].commands] == [b"EHLO"]
