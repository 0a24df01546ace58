"""From DNS and HTTPS to a mail handed over: every part real, on the loopback address."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath

import msgspec
import pytest
import trustme
from aiohttp import web
from tests.support.scripted_dns import ScriptedDns
from tests.support.scripted_smtp import ScriptedServer, polite

from sluice.adapters.dns import DnsResolver
from sluice.adapters.dns.tlsa import DaneResolver
from sluice.adapters.mtasts import CachedStsPolicies, PolicyFetcher
from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.adapters.system.clock import SystemClock
from sluice.deliver.paths import Path, Paths
from sluice.deliver.protections import Protections
from sluice.domain.dane import public_key
from sluice.domain.egress import Egress
from sluice.domain.routing import RouteTable
from sluice.domain.site import Site
from sluice.domain.smtp import Broken, Replied
from sluice.domain.tls_sessions import Place, TlsSession, session_opened, session_refused
from sluice.ports.mailer import Timeouts, Transaction

QUICK = Timeouts(connect=5, command=5, data=5, dot=5, quit=1)
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\nbody\r\n")
EGRESS = Egress("default", "out.example")


class Parts:
    """Paths and mailer over a name server, a policy server and a mail server."""

    def __init__(self, folder: FilePath) -> None:
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.dns = ScriptedDns()
        self.dns.records |= {
            ("receiver.example", "MX"): ["10 mx.receiver.example."],
            ("mx.receiver.example", "A"): ["127.0.0.1"],
            ("mta-sts.receiver.example", "A"): ["127.0.0.1"],
        }
        leaf = self.authority.issue_cert("mx.receiver.example")
        self.key = public_key(ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self.context)
        self.policy = ""

    async def start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/.well-known/mta-sts.txt", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("mta-sts.receiver.example").configure_cert(context)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        address = await self.dns.start()
        self.resolver = DnsResolver([address])
        fetcher = PolicyFetcher(self.resolver, private=True, port=runner.addresses[0][1], ca_file=self.ca_file)
        self.protections = Protections(CachedStsPolicies(self.resolver, fetcher), DaneResolver(address))
        self.paths = Paths(RouteTable(), self.resolver, SystemClock(), (), self.protections, private_addresses=True)
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(text=self.policy)

    async def connect(self, server: ScriptedServer, *, ca_file: str | None = None) -> SmtpConnection | Replied | Broken:
        path = await self.paths.find("receiver.example")
        assert isinstance(path, Path), path
        hops = await self.paths.hops(path, Site(name="mx.receiver.example"), EGRESS, "seed")
        if isinstance(hops, Broken):
            return hops
        return await SmtpMailer(QUICK, ca_file=ca_file).connect(msgspec.structs.replace(hops[0], port=server.port))


@pytest.fixture
async def parts(tmp_path: FilePath) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path)
    runner = await parts.start()
    yield parts
    await parts.protections.close()
    await parts.resolver.close()
    parts.dns.stop()
    await runner.cleanup()


async def nothing() -> None:
    """No ledger."""


async def delivered(connection: object) -> bool:
    assert isinstance(connection, SmtpConnection), connection
    result = await connection.send(MAIL, before_data=nothing)
    await connection.quit()
    return isinstance(result, Replied) and result.accepted


async def test_a_server_with_its_key_in_signed_dns_gets_the_mail(parts: Parts) -> None:
    parts.dns.signed.add("receiver.example")
    digest = hashlib.sha256(parts.key).hexdigest()
    parts.dns.records["_25._tcp.mx.receiver.example", "TLSA"] = [f"3 1 1 {digest}"]
    async with ScriptedServer(polite(context=parts.context)) as server:
        connection = await parts.connect(server)
        assert isinstance(connection, SmtpConnection), connection
        assert connection.tls.policy == "dane"
        assert await delivered(connection)


async def test_a_server_with_another_key_does_not_though_mta_sts_would_have_it(parts: Parts) -> None:
    parts.dns.signed.add("receiver.example")
    parts.dns.records["_25._tcp.mx.receiver.example", "TLSA"] = ["3 1 1 " + "00" * 32]
    parts.dns.records["_mta-sts.receiver.example", "TXT"] = ['"v=STSv1; id=1"']
    parts.policy = "version: STSv1\nmode: enforce\nmx: *.receiver.example\nmax_age: 86400\n"
    async with ScriptedServer(polite(context=parts.context)) as server:
        result = await parts.connect(server, ca_file=parts.ca_file)
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("starttls", "tls")
        assert all(b"MAIL" not in command for command in server.peers[0].commands)


async def test_an_enforced_policy_has_the_certificate_verified(parts: Parts) -> None:
    parts.dns.records["_mta-sts.receiver.example", "TXT"] = ['"v=STSv1; id=1"']
    parts.policy = "version: STSv1\nmode: enforce\nmx: *.receiver.example\nmax_age: 86400\n"
    async with ScriptedServer(polite(context=parts.context)) as server:
        connection = await parts.connect(server, ca_file=parts.ca_file)
        assert isinstance(connection, SmtpConnection), connection
        assert connection.tls.policy == "mta_sts"
        assert await delivered(connection)
        assert isinstance(await parts.connect(server), Broken)


async def test_a_forged_mx_gets_nothing_from_a_domain_with_a_policy(parts: Parts) -> None:
    parts.dns.records["receiver.example", "MX"] = ["1 mx.evil.example."]
    parts.dns.records["mx.evil.example", "A"] = ["127.0.0.1"]
    parts.dns.records["_mta-sts.receiver.example", "TXT"] = ['"v=STSv1; id=1"']
    parts.policy = "version: STSv1\nmode: enforce\nmx: *.receiver.example\nmax_age: 86400\n"
    async with ScriptedServer(polite()) as server:
        result = await parts.connect(server)
        assert isinstance(result, Broken)
        assert (result.phase, result.reason) == ("resolve", "mta_sts")
        assert server.peers == []


async def told(parts: Parts, server: ScriptedServer, *, ca_file: str | None = None) -> TlsSession:
    """What a report would say of a session with the server."""
    path = await parts.paths.find("receiver.example")
    assert isinstance(path, Path), path
    place = Place("mx.receiver.example", "127.0.0.1")
    answer = await parts.connect(server, ca_file=ca_file)
    if isinstance(answer, SmtpConnection):
        found = session_opened(path.protection, place, answer.tls)
        await answer.quit()
    else:
        found = session_refused(path.protection, place, answer)
    assert found is not None
    return found


def leaf(parts: Parts, *names: str, **given: datetime) -> ssl.SSLContext:
    """A server's context with a certificate of the authority that senders trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    parts.authority.issue_cert(*names, **given).configure_cert(context)
    return context


@pytest.mark.parametrize("mode", ["enforce", "testing"])
async def test_what_is_wrong_with_a_certificate_is_told_in_the_words_of_the_reports(parts: Parts, mode: str) -> None:
    parts.dns.records["_mta-sts.receiver.example", "TXT"] = ['"v=STSv1; id=1"']
    parts.policy = f"version: STSv1\nmode: {mode}\nmx: *.receiver.example\nmax_age: 86400\n"
    past = datetime.now(UTC) - timedelta(days=10)
    strange = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.receiver.example").configure_cert(strange)
    expired = leaf(parts, "mx.receiver.example", not_before=past, not_after=past + timedelta(days=5))
    for context, result in (
        (parts.context, None),
        (leaf(parts, "mx.other.example"), "certificate-host-mismatch"),
        (expired, "certificate-expired"),
        (strange, "certificate-not-trusted"),
        (None, "starttls-not-supported"),
    ):
        async with ScriptedServer(polite(context=context)) as server:
            found = await told(parts, server, ca_file=parts.ca_file)
        assert (found.policy_type, found.result) == ("sts", result), found
        assert found.policy == ["version: STSv1", f"mode: {mode}", "mx: *.receiver.example", "max_age: 86400"]


async def test_a_server_without_the_key_of_its_records_is_told(parts: Parts) -> None:
    parts.dns.signed.add("receiver.example")
    parts.dns.records["_25._tcp.mx.receiver.example", "TLSA"] = ["3 1 1 " + "00" * 32]
    async with ScriptedServer(polite(context=parts.context)) as server:
        found = await told(parts, server)
    assert (found.policy_type, found.policy, found.result) == ("tlsa", ["3 1 1 " + "00" * 32], "validation-failure")


async def test_a_policy_that_is_none_is_told_though_the_mail_goes(parts: Parts) -> None:
    parts.dns.records["_mta-sts.receiver.example", "TXT"] = ['"v=STSv1; id=1"']
    parts.policy = "version: STSv2\n"
    async with ScriptedServer(polite(context=parts.context)) as server:
        found = await told(parts, server)
    assert (found.policy_type, found.policy, found.result) == ("sts", [], "sts-policy-invalid")
