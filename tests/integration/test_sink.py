"""The sink counts exactly what it took, however the bytes are cut."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.adapters.embedded.ports import free_port
from sluice.adapters.embedded.sink import serve

CONTENT = b"Message-ID: <%d@x.example>\r\nSubject: hi\r\n\r\n..dot\r\nhello %d\r\n.\r\n"


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    stop, chosen = asyncio.Event(), free_port()
    running = asyncio.create_task(serve(tmp_path, chosen, free_port(), stop))
    await asyncio.sleep(0)
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", chosen)
            writer.close()
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    yield chosen
    stop.set()
    await running


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_pipelined_mails_are_each_counted_once(port: int, tmp_path: Path, piece: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = b"EHLO me\r\n" + b"".join(
        b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b%d@y.example>\r\nDATA\r\n" % n + CONTENT % (n, n) for n in range(20)
    )
    sent += b"QUIT\r\n"
    for start in range(0, len(sent), piece):
        writer.write(sent[start : start + piece])
        await writer.drain()
    replies = (await asyncio.wait_for(reader.read(), 10)).splitlines()
    writer.close()
    await asyncio.sleep(0.4)  # the index is written in batches

    assert sum(line.startswith(b"250 2.0.0 Counted") for line in replies) == 20
    taken = list(Mailbox(tmp_path).received())
    assert [mail.rfc5322_message_id for mail in taken] == [f"<{n}@x.example>" for n in range(20)]
    assert [mail.rcpt_to for mail in taken] == [[f"b{n}@y.example"] for n in range(20)]


async def test_an_empty_mail_and_unknown_commands_do_not_confuse_it(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"EHLO me\r\nDATA\r\nVRFY x\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n.\r\nRSET\r\nQUIT\r\n")
    replies = (await asyncio.wait_for(reader.read(), 10)).splitlines()
    writer.close()
    codes = [line[:3] for line in replies if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"503", b"502", b"250", b"250", b"354", b"250", b"250", b"221"]
