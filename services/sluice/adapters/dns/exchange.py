"""One question to one name server, with the whole answer: flags, and records that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib

import dns.exception
import dns.flags
import dns.message


class NoAnswer(Exception):
    """The server gave none that could be read; the text is a short word for why."""


async def exchange(query: dns.message.Message, address: str, port: int) -> dns.message.Message:
    """The answer to ``query`` by UDP, by TCP when it is too long for that. Raises :class:`NoAnswer`.

    Waits for as long as it is let. Records that break their type's rules are left out and listed in the message's
    ``errors``: what one of them gets wrong must not hide the others.
    """
    try:
        response = await _by_udp(query, address, port)
        if response.flags & dns.flags.TC:
            response = await _by_tcp(query, address, port)
    except (OSError, EOFError) as error:
        raise NoAnswer("unreachable") from error
    return response


async def _by_udp(query: dns.message.Message, address: str, port: int) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    # Connected, on a port of its own: only the server's answers arrive, and nobody knows where to send forged ones.
    transport, answer = await loop.create_datagram_endpoint(lambda: _Answer(query), remote_addr=(address, port))
    try:
        transport.sendto(query.to_wire())
        return await answer.future
    finally:
        transport.close()


async def _by_tcp(query: dns.message.Message, address: str, port: int) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        response = _read(query, await reader.readexactly(length))
    finally:
        writer.close()
    if response is None:
        raise NoAnswer("bad response")
    return response


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self.future: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        response = _read(self._query, data)
        if response is not None and not self.future.done():
            self.future.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(exc)


def _read(query: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    with contextlib.suppress(dns.exception.DNSException):
        response = dns.message.from_wire(wire, continue_on_error=True)
        if query.is_response(response):
            return response
    return None
