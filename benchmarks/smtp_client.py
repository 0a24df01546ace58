"""Mails per second and CPU per mail of the SMTP client, against a sink that does nothing but answer.

Run: ``python benchmarks/smtp_client.py [--mails 40000] [--connections 40] [--size 4096]``. The sink is a process
of its own; CPU is that of the client's process alone. ``aiosmtplib`` is the same work done by its public API.
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

    pipelining = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport
        self.buffer = b""
        self.in_data = False
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete, in one write."""
        self.buffer += data
        answers = []
        while True:
            if self.in_data:
                if not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
                    break
                self.buffer = self.buffer.partition(b"\r\n.\r\n")[2]
                self.in_data = False
                answers.append(b"250 2.0.0 taken\r\n")
                continue
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                break
            self.buffer = rest
            verb = line[:4].upper()
            if verb == b"EHLO":
                offer = b"250-PIPELINING\r\n" if self.pipelining else b""
                answers.append(b"250-sink\r\n" + offer + b"250-8BITMIME\r\n250 SIZE 100000000\r\n")
            elif verb == b"DATA":
                self.in_data = True
                answers.append(b"354 go on\r\n")
            elif verb == b"QUIT":
                answers.append(b"221 bye\r\n")
            else:
                answers.append(b"250 2.1.0 fine\r\n")
        if answers:
            self.transport.write(b"".join(answers))


class PlainSink(Sink):
    """The same without PIPELINING."""

    pipelining = False


def serve(pipe: Pipe) -> None:
    """Run both sinks in this process; tells their ports."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(sink, "127.0.0.1", 0) for sink in (Sink, PlainSink)]
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
    args = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    sink.start()
    pipelining, plain = here.recv()
    for loop, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
        run(measure(f"{loop}: aiosmtplib", theirs, pipelining, args))
        run(measure(f"{loop}: sluice, not pipelined", ours, plain, args))
        run(measure(f"{loop}: sluice, pipelined", ours, pipelining, args))
    sink.terminate()


if __name__ == "__main__":
    main()
