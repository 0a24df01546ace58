"""What is noted of a conversation with a real server: each part in order, nothing of addresses, secrets or content."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
import trustme
from tests.support.scripted_smtp import OFFERS, Peer, ScriptedServer, polite

from sluice.adapters.smtp import SmtpMailer
from sluice.domain.conversation import Conversation, Transcript
from sluice.domain.smtp import Broken, Replied
from sluice.ports.mailer import Hop, Timeouts, Transaction

CONTENT = b"Subject: a secret subject\r\n\r\nand body\r\n"
MAIL = Transaction(mail_from="bounce@sender.example", rcpt_to="reader@receiver.example", content=CONTENT)


async def nothing() -> None:
    """Before content."""


async def held(server: ScriptedServer, mails: int = 1, **given: object) -> list[Conversation]:
    """The conversations of some mails over one connection, the first with its greeting."""
    mailer = SmtpMailer(Timeouts(connect=5, command=5, data=5, dot=5, quit=1))
    hop = Hop(**{"host": "127.0.0.1", "port": server.port, "ehlo": "sender.example", "tls": "none", **given})  # type: ignore[arg-type]
    talk = Transcript(time.time)
    connection = await mailer.connect(hop, talk)
    told = []
    for number in range(1, mails + 1):
        if not isinstance(connection, Replied | Broken):
            talk = talk if number == 1 else Transcript(time.time, number)
            await connection.send(MAIL, before_data=nothing, talk=talk)
        conversation = talk.told()
        assert conversation is not None
        told.append(conversation)
    if not isinstance(connection, Replied | Broken):
        await connection.quit()
    return told


def phases(conversation: Conversation) -> list[str]:
    """Without those that are told only when they take long."""
    return [each.phase for each in conversation.exchanges if each.phase not in ("log", "content")]


def flat(conversation: Conversation) -> str:
    """All that is told."""
    return " ".join(f"{each.command} {each.reply}" for each in conversation.exchanges)


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]])
async def test_a_new_connections_first_mail_has_the_greeting_and_the_next_only_its_own_part(
    offers: tuple[str, ...],
) -> None:
    async with ScriptedServer(polite({}, offers=offers)) as server:
        first, second = await held(server, 2)
    assert phases(first) == ["connect", "banner", "ehlo", "mail", "rcpt", "data", "dot"]
    assert phases(second) == ["mail", "rcpt", "data", "dot"]
    assert (first.mail, second.mail) == (1, 2)
    by_phase = {each.phase: each for each in first.exchanges}
    assert by_phase["connect"].command == f"127.0.0.1:{server.port}"
    assert by_phase["ehlo"].command == "EHLO sender.example"
    assert by_phase["ehlo"].reply.startswith("250 ")
    assert by_phase["mail"].command.startswith("MAIL FROM:<…>")
    assert by_phase["data"].reply.startswith("354")
    assert by_phase["dot"].reply.startswith("250")
    assert all(each.ms >= 0 for each in first.exchanges)
    for word in ("reader", "bounce", "receiver.example", "secret", "body"):
        assert word not in flat(first) + flat(second)


async def test_a_mail_sent_whole_is_told_as_such() -> None:
    async with ScriptedServer(polite({}, offers=(*OFFERS, "CHUNKING"))) as server:
        _, second = await held(server, 2)
    assert phases(second) == ["mail", "rcpt", "dot"]
    assert second.exchanges[-1].command == f"BDAT {len(CONTENT)} LAST"


async def test_a_reply_that_quotes_the_recipient_is_told_without_it() -> None:
    async with ScriptedServer(polite({"RCPT": b"550 5.1.1 <reader@receiver.example>: no such user\r\n"})) as server:
        (told,) = await held(server)
    assert told.exchanges[-1].phase == "rcpt"
    assert told.exchanges[-1].reply == "550 5.1.1 <<address>>: no such user"


async def test_after_a_refusal_the_next_mail_begins_with_rset() -> None:
    async with ScriptedServer(polite({"RCPT": b"550 5.1.1 no\r\n"})) as server:
        _, second = await held(server, 2)
    assert phases(second)[0] == "rset"


async def test_tls_is_a_part_of_its_own_and_the_greeting_after_it_another() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with ScriptedServer(polite({}, context=tls)) as server:
        (told,) = await held(server, tls="required")
    assert phases(told)[:6] == ["connect", "banner", "ehlo", "starttls", "tls", "ehlo"]
    assert "TLSv1" in next(each.reply for each in told.exchanges if each.phase == "tls")


async def test_secrets_are_not_told() -> None:
    answers = {"AUTH": b"235 2.7.0 welcome\r\n"}
    async with ScriptedServer(polite(answers, offers=(*OFFERS, "AUTH PLAIN"))) as server:
        (told,) = await held(server, username="user", password="hidden")
    assert [each.command for each in told.exchanges if each.phase == "auth"] == ["AUTH PLAIN …"]


@pytest.mark.parametrize(("moment", "phase"), [("banner", "banner"), ("RCPT", "rcpt"), ("dot", "dot")])
async def test_where_a_server_says_nothing_more_stands_what_happened_instead(moment: str, phase: str) -> None:
    async def cut(peer: Peer) -> None:
        peer.cut()

    async with ScriptedServer(polite({moment: cut})) as server:
        (told,) = await held(server)
    assert told.exchanges[-1].phase == phase
    assert told.exchanges[-1].reply.startswith("(disconnected")


async def test_a_host_that_cannot_be_reached_is_told_too() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        hop = Hop(host="127.0.0.1", port=unused.getsockname()[1], ehlo="sender.example", tls="none")
        talk = Transcript(time.time)
        answer = await SmtpMailer(Timeouts(connect=5)).connect(hop, talk)
    assert isinstance(answer, Broken)
    told = talk.told()
    assert told is not None
    assert [(each.phase, each.reply[:8]) for each in told.exchanges] == [("connect", "(refused")]
