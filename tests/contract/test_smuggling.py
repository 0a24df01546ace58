"""A second mail, or a header of one's own, by way of what a producer gives: from the event to the bytes on the wire.

The event is composed and signed, the mail goes through its Kafka headers and out by SMTP to a server that keeps every
byte. What the server was told must be one mail, the one that was signed, however loosely a server reads line ends.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.compose import Worker
from tests.support.dkim_check import verified_selectors
from tests.support.scripted_smtp import OFFERS, ScriptedServer, polite

from sluice.adapters.dkim.generate import generate_keys
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.mail import Mail
from sluice.domain.outcome import Outcome
from sluice.domain.smtp import Result
from sluice.domain.topics import TEMPLATES
from sluice.ports.mailer import Hop, Timeouts, Transaction

QUICK = Timeouts(connect=20, command=20, data=20, dot=20, quit=5)
EVIL = b"evil@attacker.example"
FORGED = (
    "\r\nMAIL FROM:<evil@attacker.example>\r\nRCPT TO:<victim@site.example>\r\nDATA\r\n"
    "Subject: forged\r\n\r\nx\r\n.\r\n"
)
ENDINGS = [b"\n.\n", b"\n.\r", b"\r.\r", b"\r.\n", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r\n", b"\r\n\x00.\r\n", b"\r.\r\n"]
"""What some server or other has taken for the end of a mail (CVE-2023-51764 and its kin)."""
WAYS = [OFFERS, OFFERS[1:], (*OFFERS, "CHUNKING")]
USUAL = {
    "from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding",
    "dkim-signature", "x-tag", "reply-to", "cc", "list-unsubscribe", "list-unsubscribe-post", "list-id", "feedback-id",
    "auto-submitted", "precedence",
}  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DKIM keys of the tenant's domain."""
    folder = tmp_path_factory.mktemp("keys")
    generate_keys(folder, "acme.example", rsa_selector="r1", ed25519_selector="e1")
    return folder


class Wire:
    """What went over it, and what came of the event."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.outcomes: list[Outcome] = []
        self.results: list[Result] = []
        self.raw = b""
        self.commands: list[bytes] = []
        self.contents: list[bytes] = []


async def _through(keys: Path, event: dict[str, Any], offers: tuple[str, ...], template: dict[str, Any] | None) -> Wire:
    signing = [{"domain": "acme.example", "selector": name} for name in ("r1", "e1")]
    worker, wire = Worker(keys, clock=MemoryClock(1_700_000_000.0), tenant={"signing": signing}), Wire()
    if template is not None:
        body = {"tenant_id": "acme", "template_id": "hello", "version": 1, "locales": {"en": template}}
        worker.catalogue.apply(TEMPLATES, b"acme|hello|1", json.dumps(body).encode())
    await worker.send(worker.event(**event))
    assert worker.failures == []
    wire.mails, wire.outcomes = worker.mails, worker.outcomes
    async with ScriptedServer(polite(offers=offers)) as server:
        hop = Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.acme.example", tls="none")
        connection = await SmtpMailer(QUICK, chunking=True).connect(hop)
        assert isinstance(connection, SmtpConnection)
        for mail in wire.mails:
            envelope = mail.envelope
            transaction = Transaction(
                mail_from=envelope.mail_from,
                rcpt_to=envelope.rcpt_to,
                content=mail.content,
                smtputf8=envelope.smtputf8,
            )
            wire.results.append(await connection.send(transaction, before_data=_nothing))
        await connection.quit()
        wire.commands = [line for peer in server.peers for line in peer.commands]
        wire.contents = [content for peer in server.peers for content in peer.contents]
    return wire


async def _nothing() -> None:
    """No ledger."""


def through(
    keys: Path, event: dict[str, Any], offers: tuple[str, ...] = OFFERS, template: dict[str, Any] | None = None
) -> Wire:
    return asyncio.run(_through(keys, event, offers, template))


def received(content: bytes) -> bytes:
    """As RFC 5321 section 4.5.2 tells the receiver to read it; a chunk is as it is."""
    if not content.endswith(b".\r\n") or (content != b".\r\n" and not content.endswith(b"\r\n.\r\n")):
        return content
    lines = content.removesuffix(b".\r\n").split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def is_one_signed_mail(wire: Wire, keys: Path, *, chunked: bool = False) -> None:
    """One mail, the one that was signed, to the one recipient, and nothing that anybody could take for its end."""
    (mail,) = wire.mails
    (content,) = wire.contents
    verbs = [command[:4].upper() for command in wire.commands]
    assert verbs == [b"EHLO", b"MAIL", b"RCPT", b"BDAT" if chunked else b"DATA", b"QUIT"]
    assert EVIL not in b"".join(wire.commands)
    got = content if chunked else received(content)
    assert got == mail.content or got == mail.content + b"\r\n"
    assert verified_selectors(got, keys) == {"r1", "e1"}
    body = content if chunked else content.removesuffix(b".\r\n")
    assert body.count(b"\r") == body.count(b"\n") == body.count(b"\r\n"), "a line end that is none"
    assert b"\x00" not in body
    if not chunked:
        assert not any(ending in body for ending in ENDINGS), "somebody would take this for the end"
    assert max(map(len, body.split(b"\r\n"))) <= 998
    names = [name.lower() for name, _ in email.message_from_bytes(got, policy=email.policy.compat32).items()]
    # A field's name may hold what would be an encoded word in its value: nobody decodes names.
    assert not [name for name in names if name not in USUAL and not name.startswith("x-tag=?")]
    for name in ("from", "to", "subject", "date", "message-id"):
        assert names.count(name) == 1


def is_refused(wire: Wire, field: str) -> None:
    """Named, and not a byte of it sent."""
    assert wire.mails == []
    assert wire.contents == []
    (outcome,) = wire.outcomes
    assert outcome.event_type == "rejected"
    assert (outcome.field or "").startswith(field), outcome.field
    assert "evil" not in (outcome.reason or "")
    assert [command[:4] for command in wire.commands] == [b"EHLO", b"QUIT"]


BODIES = [
    "a\rb",
    "a\nb",
    "a\n.\nb",
    "a\r.\r\nb",
    "a\r\n.\r\nb",
    ".\r\n",
    ".",
    "..\n.\n..",
    "\n.\r\n",
    "\r.\r",
    "a\x00b",
    "a\x00.\r\n",
    "x" * 5000,
    "y" * 997 + "." + "z" * 997,
    ("." * 80 + "\n") * 50,
    "Grüße, 世界 " * 400,
    "\u2028.\u2028",
    "\x85.\x85",
    "\x0b.\x0c",
    FORGED,
    "\n." + FORGED.replace("\r\n", "\n"),
    "\r." + FORGED.replace("\r\n", "\r"),
    "From me\nFrom you",
    "=\n=0D=0A.=0D=0A",
    "a\r\n.\r",
    "a\r\n.",
    "\r\n" * 300 + ".",
    "\ufeff.\n",
    "a" * 76 + "\n." * 40,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("part", ["text", "html"])
def test_no_body_ends_early_or_starts_another(keys: Path, part: str, body: str) -> None:
    wire = through(keys, {"text": None, part: body}, WAYS[len(body) % len(WAYS)])
    if "\x00" in body and not wire.mails:
        is_refused(wire, part)
    else:
        is_one_signed_mail(wire, keys)


pieces = st.sampled_from(
    ["\r", "\n", ".", "\r\n", "\x00", " ", "a", "=", "ä", "\t", "x" * 990, "MAIL FROM:<evil@attacker.example>"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(pieces, max_size=12).map("".join), st.sampled_from(["text", "html"]), st.sampled_from(WAYS))
@example("\r\r\n.\r\r\n", "text", OFFERS)
def test_no_body_at_all_ends_early(keys: Path, body: str, part: str, offers: tuple[str, ...]) -> None:
    wire = through(keys, {"text": None, part: body}, offers)
    if wire.mails:
        is_one_signed_mail(wire, keys)
    else:
        is_refused(wire, "")


INJECTED = [
    "a\r\nX-Evil: 1",
    "a\nX-Evil: 1",
    "a\rX-Evil: 1",
    "a\x00b",
    "=?utf-8?q?a=0d=0aX-Evil:_1?=",
    "a\r\n\r\nbody",
    "\r\n",
    "a\u2028X-Evil: 1",
    "a\x85X-Evil: 1",
    "a\x0bX-Evil: 1",
    "=?utf-8?b?DQpYLUV2aWw6IDE=?=",
]


def attached(**given: str) -> dict[str, Any]:
    return {"attachments": [{"filename": "a", "content": "aGk=", **given}]}


PLACES: list[tuple[str, Any]] = [
    ("subject", lambda text: {"subject": text}),
    ("headers", lambda text: {"headers": {"X-Tag": text}}),
    ("headers", lambda text: {"headers": {f"X-Tag{text}": "v"}}),
    ("to[0]", lambda text: {"to": [{"email": "ann@site.example", "name": text}]}),
    ("from", lambda text: {"from": {"email": "shop@acme.example", "name": text}}),
    ("reply_to", lambda text: {"reply_to": {"email": "r@acme.example", "name": text}}),
    ("reply_to", lambda text: {"reply_to": {"email": f"r{text}@acme.example"}}),
    ("from", lambda text: {"from": {"email": f"shop{text}@acme.example"}}),
    ("to[0]", lambda text: {"to": [{"email": f"ann{text}@site.example"}]}),
    ("to[0]", lambda text: {"to": [{"email": f"ann@site.example{text}"}]}),
    ("return_path", lambda text: {"return_path": f"b{text}@acme.example"}),
    ("unsubscribe", lambda text: {"stream": "broadcast", "unsubscribe": {"url": f"https://acme.example/{text}"}}),
    ("unsubscribe", lambda text: {"stream": "broadcast", "unsubscribe": {"mailto": f"u{text}@acme.example"}}),
    ("attachments", lambda text: attached(filename=f"a{text}.txt")),
    ("attachments", lambda text: attached(content_type=f"text/plain{text}")),
    ("attachments", lambda text: attached(disposition="inline", content_id=text)),
    ("message_id", lambda text: {"message_id": f"m{text}"}),
]


@pytest.mark.parametrize("text", INJECTED, ids=range(len(INJECTED)))
@pytest.mark.parametrize("place", range(len(PLACES)))
def test_no_header_value_becomes_a_header_of_its_own(keys: Path, place: int, text: str) -> None:
    """Refused by the field's name with nothing sent; or, where no reader would decode it, sent as the text it is."""
    field, event = PLACES[place]
    wire = through(keys, event(text))
    if wire.mails:
        assert text.startswith("=?") or not text.strip(), "only a name that is empty but for line breaks is left out"
        is_one_signed_mail(wire, keys)
        assert b"\nx-evil" not in wire.mails[0].content.lower()
    else:
        is_refused(wire, field)


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "a\nBcc: evil@attacker.example", "=?utf-8?q?=0a?=", "a\x00"])
def test_no_variable_breaks_out_of_a_templates_subject(keys: Path, name: str) -> None:
    event = {"subject": None, "text": None, "template": {"id": "hello", "variables": {"name": name}}}
    wire = through(keys, event, template={"subject": "Hello {{ name }}", "text": "Hi\r\n.\r\n{{ name }}"})
    is_refused(wire, "subject")


@pytest.mark.parametrize("name", ["\r\n.\r\n", "\n.\n", "\r.\r", FORGED])
def test_no_variable_ends_a_templates_body(keys: Path, name: str) -> None:
    event = {"subject": None, "text": None, "template": {"id": "hello", "variables": {"name": name}}}
    is_one_signed_mail(
        through(keys, event, template={"subject": "s", "text": "a{{ name }}b", "html": "<p>{{ name }}</p>"}), keys
    )


ADDRESSES = [
    "a@b@site.example",
    '"a b"@site.example',
    '"a\r\nDATA"@site.example',
    "a%b@site.example",
    "a%0d%0aDATA@site.example",
    "a!b@site.example",
    "<a@site.example>",
    "a@site.example> NOTIFY=NEVER",
    "a@site.example>\r\nRCPT TO:<evil@attacker.example",
    "a@[127.0.0.1]",
    "a b@site.example",
    "a@site.example,evil@attacker.example",
    "a@site.example;",
    "a(comment)@site.example",
    "a@site..example",
    "a@-site.example",
    "a@site.example\x00",
    "a\\@site.example",
    "@site.example",
    "a@",
    "a@localhost",
    "'a'@site.example",
    "a`id`@site.example",
    "a=b@site.example",
    "ü@site.example",
    "a@sité.example",
    "a@site\u3002example",
    "a@site.example.",
    "a" * 65 + "@site.example",
]


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
@pytest.mark.parametrize("place", ["to", "return_path"])
def test_no_address_leaves_its_path(keys: Path, place: str, address: str) -> None:
    """What is sent stands between the angle brackets, byte for byte, or is refused."""
    wire = through(keys, {"to": [{"email": address}]} if place == "to" else {"return_path": address})
    if not wire.mails:
        is_refused(wire, "to[0]" if place == "to" else "return_path")
        return
    is_one_signed_mail(wire, keys)
    _, mail, rcpt, *_ = wire.commands
    assert re.fullmatch(rb"RCPT TO:<[^<>\s\x00-\x20\"]+@[a-z0-9.-]+>", rcpt), rcpt
    assert re.fullmatch(rb"MAIL FROM:<[^<>\s\x00-\x20\"]*>( [A-Z0-9]+(=[A-Z0-9]+)?)*", mail), mail
