"""A domain's policy in testing fails, and the domain is told so in its mailbox, once."""

from __future__ import annotations

import asyncio
import email
import email.policy
import gzip
import json
import os
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from tests.support.scripted_dns import ScriptedDns
from tests.support.stack import Stack, wait_for
from typer.testing import CliRunner

from sluice.commands.root import app
from sluice.domain.outcome import Outcome, encode_outcome
from sluice.domain.reference import Tenant
from sluice.domain.tls_sessions import TlsSession
from sluice.domain.topics import OUTCOME
from sluice.local.seed import default_tenant
from sluice.ports.bus import Record
from sluice.runtime import console

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

YESTERDAY = datetime.now(UTC).replace(hour=12) - timedelta(days=1)
DAY = YESTERDAY.date().isoformat()
STS = ["version: STSv1", "mode: testing", "mx: *.receiver.example", "max_age: 86400"]


@pytest.fixture
def dns() -> Iterator[ScriptedDns]:
    """A name server on a thread of its own."""
    loop, server = asyncio.new_event_loop(), ScriptedDns()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    loop.call_soon_threadsafe(server.stop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(autouse=True)
def _settings(stack: Stack, dns: ScriptedDns, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    for name, value in stack.local.environment.items():
        if name.startswith("SLUICE_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLUICE_DNS_SERVERS", f"127.0.0.1:{dns.port}")
    monkeypatch.setenv("SLUICE_TLS_REPORT_TENANT", "reports")
    monkeypatch.setenv("SLUICE_TLS_REPORT_ORGANISATION", "Sender Inc.")
    yield
    structlog.reset_defaults()


def reporter(*, may: bool) -> Tenant:
    """Who sends reports, signed as the default tenant's mail is."""
    made = default_tenant()
    return Tenant(
        tenant_id="reports", domains=made.domains, from_=made.from_, signing=made.signing, tls_reports=may
    )  # fmt: skip


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["tls-reports", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def happened(stack: Stack, domain: str, *sessions: TlsSession) -> None:
    """An attempt of yesterday that began these sessions, as deliver tells it."""
    message_id = f"tls-{uuid.uuid4().hex}"
    outcome = Outcome(
        event_id=uuid.uuid4().hex, event_type="delivered", event_time=YESTERDAY, message_id=message_id,
        tenant_id="acme", recipient_domain=domain, attempt=1, tls_sessions=list(sessions),
    )  # fmt: skip
    headers = [("ce_type", b"sluice.outcome.v1"), ("ce_id", outcome.event_id.encode())]
    console.publish(stack.local.settings, [Record(OUTCOME, encode_outcome(outcome), message_id.encode(), headers)])
    wait_for(lambda: stack.outcomes(message_id), bool, what="the outcome in ClickHouse")


def test_a_policy_that_fails_in_testing_is_told_to_its_domain_once(stack: Stack, dns: ScriptedDns) -> None:
    domain = f"r{uuid.uuid4().hex[:8]}.example"
    mailbox = stack.address(domain=domain)
    dns.records[f"_smtp._tls.{domain}", "TXT"] = [f'"v=TLSRPTv1; rua=mailto:{mailbox}"']
    stack.reference(reporter(may=True))
    good = TlsSession("sts", STS, ["*.receiver.example"])
    bad = TlsSession("sts", STS, ["*.receiver.example"], "certificate-expired", "", f"mx.{domain}", "192.0.2.9", "old")
    happened(stack, domain, bad, good)
    happened(stack, domain, bad)
    assert {"domain": domain, "sessions": 3, "failures": 2, "sent": 0} in run("list", "--day", DAY, "--json")
    shown = run("show", domain, "--day", DAY)

    (told,) = run("send", domain, "--day", DAY, "--json")
    assert told["state"] == "sent"
    stack.until(told["message_id"], "delivered")
    content = stack.mail(mailbox)

    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert mail.get_content_type() == "multipart/report"
    assert mail["Content-Type"].params["report-type"] == "tlsrpt"
    assert mail["TLS-Report-Domain"] == domain
    assert mail["TLS-Report-Submitter"] == "acme.example"
    assert mail["Subject"].endswith(f"Report-ID: <{told['report_id']}>")
    assert mail["DKIM-Signature"]
    text, attached = mail.iter_parts()
    assert "Sessions that failed: 2" in text.get_content()
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_filename().startswith(f"acme.example!{domain}!")
    report = json.loads(gzip.decompress(attached.get_content()))
    assert report == shown
    assert report["organization-name"] == "Sender Inc."
    (policy,) = report["policies"]
    assert policy["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 2}
    assert policy["failure-details"][0]["result-type"] == "certificate-expired"

    (again,) = run("send", domain, "--day", DAY, "--json")
    assert again["state"] == "sent before"
    assert {"domain": domain, "sessions": 3, "failures": 2, "sent": 1} in run("list", "--day", DAY, "--json")
    assert len(stack.received(mailbox)) == 1


def test_a_tenant_that_may_not_send_reports_sends_none(stack: Stack, dns: ScriptedDns) -> None:
    stack.reference(reporter(may=False))
    done = CliRunner().invoke(app, ["tls-reports", "send", "--day", DAY])
    assert done.exit_code == 1
    assert "may not send reports" in done.output
    rows = stack.until(stack.send(to=[stack.address()], report_type="tlsrpt"), "rejected", "delivered")
    assert [(row["event_type"], row["field"]) for row in rows] == [("rejected", "report_type")]
