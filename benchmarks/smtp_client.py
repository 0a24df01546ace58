"""Mails per second and CPU per mail of the SMTP client, against a sink that does nothing but answer.

Run: ``python benchmarks/smtp_client.py [--mails 40000] [--connections 40] [--size 4096] [--rtt 0.05]``. The sink is a
process of its own; CPU is that of the client's process alone. ``aiosmtplib`` is the same work done by its public API.
With ``--rtt`` the sink answers so many seconds late, as one that far away would.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import aiosmtplib
import uvloop

from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.domain.smtp import Replied
from sluice.ports.mailer import Hop, Transaction

SENDER, RECIPIENT = "news@sender.example", "reader@receiver.example"


class Sink(asyncio.Protocol):
    """Answers each command at once and forgets what it hears."""

    offers: tuple[bytes, ...] = (b"PIPELINING",)
    rtt = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport
        self.buffer = b""
        self.in_data = False
        self.chunk = 0
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete, in one write."""
        self.buffer += data
        answers = []
        while (answer := self.take_content() if self.in_data or self.chunk else self.take_command()) is not None:
            answers.append(answer)
        if answers and self.rtt:
            asyncio.get_running_loop().call_later(self.rtt, self.transport.write, b"".join(answers))
        elif answers:
            self.transport.write(b"".join(answers))

    def take_content(self) -> bytes | None:
        """The answer to content, when all of it is there."""
        if self.in_data:
            if not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
                return None
            self.buffer = self.buffer.partition(b"\r\n.\r\n")[2]
        else:
            if len(self.buffer) < self.chunk:
                return None
            self.buffer = self.buffer[self.chunk :]
        self.in_data, self.chunk = False, 0
        return b"250 2.0.0 taken\r\n"

    def take_command(self) -> bytes | None:
        """The answer to a command line; none to BDAT before its chunk has come."""
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return None
        self.buffer = rest
        verb = line[:4].upper()
        if verb == b"EHLO":
            offers = b"".join(b"250-%b\r\n" % offer for offer in self.offers)
            return b"250-sink\r\n" + offers + b"250-8BITMIME\r\n250 SIZE 100000000\r\n"
        if verb == b"DATA":
            self.in_data = True
            return b"354 go on\r\n"
        if verb == b"BDAT":
            self.chunk = int(line.split()[1])
            return self.take_content() or b""
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 2.1.0 fine\r\n"


class PlainSink(Sink):
    """The same without PIPELINING."""

    offers = ()


class ChunkingSink(Sink):
    """The same with CHUNKING too."""

    offers = (b"PIPELINING", b"CHUNKING")


def serve(pipe: Pipe, rtt: float) -> None:
    """Run the sinks in this process; tells their ports."""
    Sink.rtt = rtt

    async def run() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(sink, "127.0.0.1", 0) for sink in (Sink, PlainSink, ChunkingSink)]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    uvloop.run(run())


async def nothing() -> None:
    """No ledger."""


async def ours(port: int, contents: asyncio.Queue[bytes]) -> None:
    """One connection of ours until nothing is left."""
    hop = Hop(host="127.0.0.1", port=port, ehlo="bench.example", tls="none")
    connection = await SmtpMailer().connect(hop)
    assert isinstance(connection, SmtpConnection), connection
    while not contents.empty():
        transaction = Transaction(mail_from=SENDER, rcpt_to=RECIPIENT, content=contents.get_nowait())
        result = await connection.send(transaction, before_data=nothing)
        assert isinstance(result, Replied), result
        assert result.accepted, result
    await connection.quit()


async def theirs(port: int, contents: asyncio.Queue[bytes]) -> None:
    """One connection of aiosmtplib until nothing is left."""
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, local_hostname="bench.example", start_tls=False)
    await client.connect()
    await client.ehlo()
    while not contents.empty():
        content = contents.get_nowait()
        await client.mail(SENDER, options=[f"SIZE={len(content)}"])
        await client.rcpt(RECIPIENT)
        await client.data(content)
    await client.quit()


async def measure(
    name: str, work: Callable[[int, asyncio.Queue[bytes]], Awaitable[None]], port: int, args: argparse.Namespace
) -> None:
    """Run and print one line."""
    line = b"A line of text that is neither short nor very long, as mails have them.\r\n"
    content = b"Subject: benchmark\r\n\r\n" + line * (args.size // len(line))
    contents: asyncio.Queue[bytes] = asyncio.Queue()
    for _ in range(args.mails):
        contents.put_nowait(content)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(port, contents) for _ in range(args.connections)))
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"{name:<36} {args.mails / took:>8,.0f} mails/s {used / args.mails * 1e3:>8.3f} ms CPU/mail")


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=40)
    parser.add_argument("--size", type=int, default=4_096)
    parser.add_argument("--rtt", type=float, default=0.0)
    args = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(there, args.rtt), daemon=True)
    sink.start()
    pipelining, plain, chunking = here.recv()
    for loop, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
        run(measure(f"{loop}: aiosmtplib", theirs, pipelining, args))
        run(measure(f"{loop}: sluice, not pipelined", ours, plain, args))
        run(measure(f"{loop}: sluice, pipelined", ours, pipelining, args))
        run(measure(f"{loop}: sluice, in one write", ours, chunking, args))
    sink.terminate()


if __name__ == "__main__":
    main()
