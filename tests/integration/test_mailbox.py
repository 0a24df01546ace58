"""The mailbox server over real sockets: what it says it took is kept, and it misbehaves only as asked."""

import asyncio
import datetime as dt
import json
import os
import signal
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import aiosmtplib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.adapters.embedded.mailbox_server import MailboxServer
from sluice.adapters.embedded.mailbox_smtp import LARGEST_MAIL
from sluice.adapters.embedded.mailbox_store import INDEX, Mailbox, read_index
from sluice.adapters.embedded.mailbox_tls import self_signed
from sluice.adapters.embedded.ports import PortTaken, free_port

MAIL = b"Message-ID: <one@x.example>\r\nSubject: hi\r\n\r\nhello\r\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MailboxServer]:
    async with MailboxServer(tmp_path / "mailbox") as running:
        yield running


async def send(server: MailboxServer, to: str, content: bytes = MAIL, patience: float = 5.0) -> str:
    """Send one mail; the final reply, or the code that refused it, or what broke."""
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False, timeout=patience)
    try:
        async with client:
            _, text = await client.sendmail("sender@x.example", [to], content)
            return text
    except aiosmtplib.SMTPRecipientsRefused as refused:
        return str(refused.recipients[0].code)
    except aiosmtplib.SMTPResponseException as refused:
        return str(refused.code)
    except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError) as broken:
        return type(broken).__name__


async def converse(server: MailboxServer, *chunks: bytes) -> list[bytes]:
    """Write raw bytes, then QUIT, and return every reply line until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for chunk in (*chunks, b"QUIT\r\n"):
        writer.write(chunk)
        await writer.drain()
    lines = (await asyncio.wait_for(reader.read(), 20)).splitlines()
    writer.close()
    return lines


def in_time(awaitable: Awaitable[str], seconds: float) -> Awaitable[str]:
    return asyncio.wait_for(awaitable, seconds)


async def test_a_mail_is_kept_whole_with_its_envelope(server: MailboxServer) -> None:
    reply = await send(server, "ann@Site.example")
    [mail] = server.mailbox.received()
    assert mail.file.startswith("site.example/")
    assert mail.file.rpartition("/")[2].removesuffix(".eml") in reply
    assert server.mailbox.content(mail) == MAIL
    assert (mail.rfc5322_message_id, mail.mail_from, mail.rcpt_to) == (
        "<one@x.example>",
        "sender@x.example",
        ["ann@Site.example"],
    )
    assert mail.peer.startswith("127.0.0.1:")
    assert mail.replied_at is not None
    assert mail.dot_at <= mail.replied_at
    assert server.stats.accepted == 1


async def test_an_empty_mailbox_reads_as_empty(tmp_path: Path) -> None:
    assert list(read_index(tmp_path)) == []


async def test_pipelined_commands_are_answered_in_order(server: MailboxServer) -> None:
    transaction = b"MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b+bounce@x.example>\r\nDATA\r\n" + MAIL + b".\r\n"
    lines = await converse(server, b"EHLO me\r\n" + transaction * 2)
    codes = [line[:3] for line in lines if line[3:4] == b" "]
    assert codes == [b"220", b"250", *[b"250", b"250", b"550", b"354", b"250"] * 2, b"221"]
    assert b"250-PIPELINING" in lines
    assert b"250-8BITMIME" in lines
    assert b"250-SMTPUTF8" in lines
    assert f"250-SIZE {LARGEST_MAIL}".encode() in lines
    assert [(mail.mail_from, mail.rcpt_to) for mail in server.mailbox.received()] == [("", ["a@x.example"])] * 2


HARD_LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b".x", b"ends with a dot.", b"\n.\n", b"\n.", b"\r", b"\r.", b"x" * 5000]),
        st.binary(max_size=40),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(lines=HARD_LINES, cut=st.integers(1, 60))
def test_content_comes_through_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cut: int
) -> None:
    """Dot-stuffed as RFC 5321 section 4.5.2 says, and written in pieces cut anywhere."""
    content = b"\r\n".join(lines) + b"\r\n" if lines else b""
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]

    async def story() -> None:
        async with MailboxServer(tmp_path_factory.mktemp("mailbox")) as server:
            data = stuffed + b".\r\n"
            pieces = [data[at : at + cut] for at in range(0, min(len(data), 40 * cut), cut)]
            pieces.append(data[len(b"".join(pieces)) :])
            lines = await converse(
                server, b"EHLO me\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n", *pieces
            )
            assert lines[-1].startswith(b"221")
            [mail] = server.mailbox.received()
            assert server.mailbox.content(mail) == content

    asyncio.run(story())


async def test_a_mail_of_thirty_megabytes_is_kept_and_one_too_large_refused(server: MailboxServer) -> None:
    body = (b"A" * 76 + b"\r\n") * 400_000
    assert (await in_time(send(server, "big@x.example", MAIL + body, patience=30), 30)).startswith("2.0.0")
    [mail] = server.mailbox.received()
    assert mail.size == len(MAIL + body)
    start = b"EHLO me\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n"
    lines = await converse(server, start, body, body[: LARGEST_MAIL - len(body) + 100], b"\r\n.\r\n")
    assert lines[-2].startswith(b"552")
    assert server.stats.accepted == 1


async def test_words_in_the_address_defer_bounce_and_refuse(server: MailboxServer) -> None:
    replies = [await send(server, "ann+defer2@x.example") for _ in range(3)]
    assert [reply[:3] for reply in replies] == ["451", "451", "2.0"]
    assert await send(server, "ann+bounce@x.example") == "550"
    assert await send(server, "ann+spam@x.example") == "554"
    assert await send(server, "ann+full@x.example") == "452"
    assert [mail.rcpt_to for mail in server.mailbox.received()] == [["ann+defer2@x.example"]]
    assert server.stats.refused == 5


async def test_a_mail_dropped_or_hung_after_the_dot_is_not_kept_and_passes_the_next_time(server: MailboxServer) -> None:
    assert await send(server, "ann+drop@x.example") == "SMTPServerDisconnected"
    assert await send(server, "bob+hang@x.example", patience=0.2) in {"SMTPReadTimeoutError", "SMTPTimeoutError"}
    assert list(server.mailbox.received()) == []
    assert (await send(server, "ann+drop@x.example")).startswith("2.0.0")
    assert (await send(server, "bob+hang@x.example")).startswith("2.0.0")


async def test_a_lost_reply_leaves_the_mail_kept(server: MailboxServer) -> None:
    assert await send(server, "ann+lost@x.example") == "SMTPServerDisconnected"
    assert (await send(server, "ann+lost@x.example")).startswith("2.0.0")
    first, second = server.mailbox.received()
    assert first.replied_at is None
    assert second.replied_at is not None
    assert server.mailbox.copies() == {"<one@x.example>": 2}


async def test_a_slow_site_answers_late_and_only_itself(server: MailboxServer) -> None:
    slow = asyncio.create_task(send(server, "ann+slow0.3@x.example"))
    assert (await send(server, "bob@x.example")).startswith("2.0.0")
    assert not slow.done()
    await slow
    kept = {mail.rcpt_to[0][:3]: mail for mail in server.mailbox.received()}
    assert kept["ann"].replied_at is not None
    assert kept["ann"].replied_at - kept["ann"].dot_at >= 0.3


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
async def test_a_rule_answers_or_disconnects_at_each_phase(server: MailboxServer, phase: str) -> None:
    server.behaviours = [Behaviour(phase=phase, reply="450 4.7.0 Not now")]  # type: ignore[arg-type]
    assert await send(server, "ann@x.example") == "450"
    server.behaviours = [Behaviour(phase=phase, action="disconnect")]  # type: ignore[arg-type]
    assert await send(server, "ann@x.example") == "SMTPServerDisconnected"
    server.behaviours = []
    assert (await send(server, "ann@x.example")).startswith("2.0.0")
    assert server.stats.accepted == 1


async def test_a_421_closes_the_connection(server: MailboxServer) -> None:
    start = b"EHLO me\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b+reply421@x.example>\r\nNOOP\r\n"
    lines = await converse(server, start)
    assert lines[-1].startswith(b"421")


async def test_domains_with_slashes_stay_inside_the_folder(server: MailboxServer) -> None:
    await converse(
        server, b"EHLO me\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@../../etc/x>\r\nDATA\r\n" + MAIL + b".\r\n"
    )
    for mail in server.mailbox.received():
        assert (server.mailbox.folder / mail.file).resolve().is_relative_to(server.mailbox.folder.resolve())


async def test_internationalised_addresses_are_kept_as_they_are(server: MailboxServer) -> None:
    text = "EHLO me\r\nMAIL FROM:<a@x.example> SMTPUTF8\r\nRCPT TO:<用户@例子.example>\r\nDATA\r\n"
    await converse(server, text.encode() + MAIL + b".\r\n")
    [mail] = server.mailbox.received()
    assert mail.rcpt_to == ["用户@例子.example"]
    assert mail.file.startswith("例子.example/")


async def test_starttls_protects_a_mail(tmp_path: Path) -> None:
    context = self_signed("mailbox.localhost", dt.datetime.now(dt.UTC))
    async with MailboxServer(tmp_path, tls=context) as server:
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=server.port, start_tls=True, tls_context=trusting
        ) as client:
            await client.sendmail("a@x.example", ["b@x.example"], MAIL)
        [mail] = server.mailbox.received()
        assert mail.tls == "TLSv1.3"


async def test_a_new_run_continues_the_index_and_drops_a_torn_line(tmp_path: Path) -> None:
    async with MailboxServer(tmp_path) as first:
        await send(first, "ann@x.example")
    with (tmp_path / INDEX).open("ab") as index:
        index.write(b'{"file":"x.exam')
    assert len(list(read_index(tmp_path))) == 1
    async with MailboxServer(tmp_path) as second:
        await send(second, "bob@x.example")
    assert [mail.rcpt_to[0] for mail in read_index(tmp_path)] == ["ann@x.example", "bob@x.example"]


async def test_stopping_closes_idle_and_hanging_connections(tmp_path: Path) -> None:
    async with MailboxServer(tmp_path) as server:
        hanging = asyncio.create_task(send(server, "ann+hang@x.example", patience=30))
        _, idle = await asyncio.open_connection("127.0.0.1", server.port)
        while not server.stats.silent:  # noqa: ASYNC110 -- what is waited for is the server's own affair
            await asyncio.sleep(0)
    assert await in_time(hanging, 2) == "SMTPServerDisconnected"
    idle.close()


async def test_a_mail_that_cannot_be_written_is_left_with_the_client(server: MailboxServer) -> None:
    """A file where the site's folder should be stands for a full or broken disk."""
    (server.mailbox.folder / "x.example").write_text("in the way")
    assert await send(server, "ann@x.example") == "451"
    assert (await send(server, "ann@y.example")).startswith("2.0.0")
    assert [mail.rcpt_to for mail in server.mailbox.received()] == [["ann@y.example"]]


async def test_a_taken_port_is_named(server: MailboxServer, tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match=str(server.port)):
        await MailboxServer(tmp_path / "other", port=server.port).start()


async def test_the_process_serves_is_told_to_misbehave_and_stops_on_sigterm(tmp_path: Path) -> None:
    port, control = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluice.adapters.embedded.mailbox", "--tls"),
        *("--port", str(port), "--control-port", str(control), "--data", str(tmp_path)),
    )
    address = f"http://127.0.0.1:{control}"

    def ask(path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(address + path, data=body, method="PUT" if body else "GET")
        with urllib.request.urlopen(request, timeout=5) as answer:
            content: bytes = answer.read()
            return content

    async def healthy() -> None:
        while True:
            try:
                await asyncio.to_thread(ask, "/healthz")
                return
            except OSError:
                await asyncio.sleep(0.05)

    try:
        await asyncio.wait_for(healthy(), 20)
        rules = json.dumps([{"domain": "down.example", "reply": "451 Down"}]).encode()
        await asyncio.to_thread(ask, "/behaviours", rules)
        client = MailboxServer(tmp_path / "unused", port=port)
        assert await send(client, "ann@down.example") == "451"
        assert (await send(client, "ann@up.example")).startswith("2.0.0")
        assert json.loads(await asyncio.to_thread(ask, "/stats"))["accepted"] == 1
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=True, tls_context=trusting) as secured:
            await secured.sendmail("a@x.example", ["b@x.example"], MAIL)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert [mail.tls for mail in Mailbox(tmp_path).received()] == [None, "TLSv1.3"]
