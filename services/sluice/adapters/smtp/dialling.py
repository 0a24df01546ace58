"""From a hop to a connected socket: looking up, trying addresses side by side, and saying why none answered."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence

from sluice.adapters.smtp.channel import Channel
from sluice.domain.routing import interleaved
from sluice.ports.mailer import Hop

STAGGER = 0.25
"""Seconds between one address and the next (RFC 8305 section 5, "Connection Attempt Delay")."""


async def dial(hop: Hop) -> tuple[Channel, str]:
    """Connect to the first address that answers, and tell which.

    Raises :class:`OSError` (:class:`socket.gaierror` when the lookup failed) or :class:`UnicodeError` for a name that
    cannot be one. The caller limits the time.
    """
    local = (hop.source_address, 0) if hop.source_address is not None else None
    return await connect_to_first(await _addresses(hop), hop.port, local)


async def connect_to_first(
    addresses: Sequence[str], port: int, local: tuple[str, int] | None = None, *, stagger: float = STAGGER
) -> tuple[Channel, str]:
    """Happy eyeballs (RFC 8305 section 5): the next address is tried when one failed, or is silent for ``stagger``.

    Attempts under way go on meanwhile; the first to connect wins, the others are closed. Raises the first
    :class:`OSError` that came when all fail. It is our own race because uvloop's ``create_connection`` has none.
    """
    untried = list(reversed(addresses))
    trying: dict[asyncio.Task[Channel], str] = {}
    failure: OSError | None = None
    try:
        while untried or trying:
            if untried:
                address = untried.pop()
                trying[asyncio.create_task(_connect(address, port, local))] = address
            done, _ = await asyncio.wait(
                trying, timeout=stagger if untried else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in [attempt for attempt in trying if attempt in done]:
                address = trying.pop(attempt)
                try:
                    return attempt.result(), address
                except OSError as error:
                    failure = failure or error
    finally:
        await _give_up(trying)
    raise failure or OSError(errno.EADDRNOTAVAIL, "no address of the family of the source address")


def blame(error: OSError) -> str:
    """The reason that :class:`sluice.domain.smtp.Broken` gives for a failure to connect."""
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "disconnected"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EMFILE, errno.ENFILE):
        return "unsupported"
    return "refused"


async def _connect(address: str, port: int, local: tuple[str, int] | None) -> Channel:
    _, channel = await asyncio.get_running_loop().create_connection(Channel, address, port, local_addr=local)
    return channel


async def _give_up(attempts: dict[asyncio.Task[Channel], str]) -> None:
    for attempt in attempts:
        attempt.cancel()
    # One may have connected in the same turn of the loop as the winner, before the cancellation reached it.
    for ended in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(ended, Channel):
            ended.abort()


async def _addresses(hop: Hop) -> tuple[str, ...]:
    target = hop.address or hop.host
    try:
        addresses = [str(ipaddress.ip_address(target))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(target, hop.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if hop.source_address is not None:
        version = ipaddress.ip_address(hop.source_address).version
        addresses = [address for address in addresses if ipaddress.ip_address(address).version == version]
    return interleaved(addresses)
