"""A receiving server that notes when connections are open and when mails come, and accepts everything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

from tests.support.busiest import busiest_second


class CountingSink:
    """Runs in a thread of its own. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[tuple[float, str]] = []
        """When each mail's final dot came, and its recipient's domain."""
        self.opened: list[tuple[float, int, int]] = []
        """Changes in the number of connections: time, connection, +1 or -1."""
        self.sources: dict[int, str] = {}
        """The address that a connection came from."""
        self.took: list[int] = []
        """The connection that each of ``mails`` came over."""
        self.domains: dict[int, str] = {}
        """The domain that a connection's mails went to."""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.opened)
        self.opened.append((time.monotonic(), number, 1))
        self.sources[number] = writer.get_extra_info("peername")[0]
        try:
            writer.write(b"220 sink\r\n")
            while line := await reader.readline():
                word = line[:4].upper()
                if word == b"RCPT":
                    self.domains[number] = line.rpartition(b"@")[2].split(b">")[0].decode()
                if word == b"DATA":
                    writer.write(b"354 go on\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    self.mails.append((time.monotonic(), self.domains[number]))
                    self.took.append(number)
                writer.write(b"250-sink\r\n250 PIPELINING\r\n" if word == b"EHLO" else b"250 ok\r\n")
                if word == b"QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.opened.append((time.monotonic(), number, -1))
            writer.close()

    def arrived(self) -> Counter[str]:
        """Mails by recipient domain."""
        return Counter(domain for _, domain in self.mails)

    def busiest_second(self, domain: str, source: str | None = None) -> int:
        """The most mails to a domain in any second, from one address if given."""
        return busiest_second(
            at
            for (at, to), number in zip(self.mails, self.took, strict=True)
            if to == domain and source in (None, self.sources[number])
        )

    def most_open(self, domain: str, source: str | None = None) -> int:
        """The most connections open to a domain at once, from one address if given."""
        most = now = 0
        for _, number, change in self.opened:
            if self.domains.get(number) == domain and source in (None, self.sources[number]):
                now += change
                most = max(most, now)
        return most
