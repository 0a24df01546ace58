"""The resolver port on aiodns (c-ares)."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import aiodns
import pycares
import structlog
from aiodns import error as ares

from sluice.adapters.dns.cache import AnswerCache
from sluice.ports.resolver import LookupFailed, MxAnswer, MxHosts, NoSuchDomain, NullMx

log = structlog.get_logger(__name__)

LEAST_TTL, MOST_TTL = 30.0, 3600.0
"""Bounds on how long an answer is kept, seconds: owners publish zero and a week alike."""
NEGATIVE_TTL = 300.0
"""How long "there is none" is kept; c-ares does not hand on the SOA that would say (RFC 2308)."""
FAILURE_TTL = 5.0
"""How long a failure is kept, so that a thousand mails for a broken domain do not ask a thousand times."""
ALIASES_FOLLOWED = 8

_ABSENT = {ares.ARES_ENOTFOUND: "no such name", ares.ARES_ENODATA: "no such record", ares.ARES_EBADNAME: "not a name"}
_NO_NAME = {ares.ARES_ENOTFOUND, ares.ARES_EBADNAME}
_REASONS = {
    ares.ARES_ESERVFAIL: "servfail",
    ares.ARES_EREFUSED: "refused",
    ares.ARES_ETIMEOUT: "timeout",
    ares.ARES_ECONNREFUSED: "unreachable",
    ares.ARES_ENOTIMP: "not implemented",
    ares.ARES_EFORMERR: "format error",
    ares.ARES_EBADRESP: "bad response",
}
_Type = Literal["MX", "A", "AAAA", "TXT"]


class _Records:
    """The records of one type at the end of a chain of aliases; ``exists`` is False when there is no such name."""

    __slots__ = ("data", "exists", "ttl")

    def __init__(self, data: list[Any], ttl: float, *, exists: bool = True) -> None:
        self.data = data
        self.ttl = ttl
        self.exists = exists


class DnsResolver:
    """Asks the system's name servers, or ``nameservers`` (``address`` or ``address:port``).

    Each server is given ``timeout`` seconds, ``tries`` times; a lookup as a whole at most ``deadline``. Keeps up to
    ``entries`` answers, 30 seconds to an hour. ``now`` is a monotonic clock in seconds. Belongs to the event loop that
    first uses it; :meth:`close` when done.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        timeout: float = 3.0,
        tries: int = 2,
        deadline: float = 20.0,
        entries: int = 50_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nameservers = list(nameservers or ())
        self._timeout = timeout
        self._tries = tries
        self._deadline = deadline
        self._channel: aiodns.DNSResolver | None = None
        self._mx: AnswerCache[str, MxAnswer] = AnswerCache(entries, now)
        self._addresses: AnswerCache[str, tuple[str, ...] | LookupFailed] = AnswerCache(entries, now)
        self._texts: AnswerCache[str, tuple[str, ...] | LookupFailed] = AnswerCache(entries, now)

    async def mx(self, domain: str) -> MxAnswer:
        """As :meth:`sluice.ports.resolver.Resolver.mx`."""
        return await self._mx.get(domain, lambda: self._find_mx(domain))

    async def addresses(self, host: str) -> tuple[str, ...] | LookupFailed:
        """As :meth:`sluice.ports.resolver.Resolver.addresses`; an address is its own answer. IPv4 comes first."""
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            return await self._addresses.get(host, lambda: self._find_addresses(host))

    async def txt(self, name: str) -> tuple[str, ...] | LookupFailed:
        """As :meth:`sluice.ports.resolver.Texts.txt`."""
        return await self._texts.get(name, lambda: self._find_texts(name))

    async def close(self) -> None:
        """Give up what is under way and close the sockets."""
        await self._mx.close()
        await self._addresses.close()
        await self._texts.close()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _find_mx(self, domain: str) -> tuple[MxAnswer, float]:
        found = await self._query(domain, "MX")
        if isinstance(found, LookupFailed):
            return found, FAILURE_TTL
        if not found.exists:
            return NoSuchDomain(found.ttl), found.ttl
        hosts = sorted({(data.priority, data.exchange.rstrip(".").lower()) for data in found.data})
        named = tuple(pair for pair in hosts if pair[1])
        if named:
            return MxHosts(named, found.ttl), found.ttl
        if hosts:
            return NullMx(found.ttl), found.ttl
        return await self._implicit(domain)

    async def _implicit(self, domain: str) -> tuple[MxAnswer, float]:
        found, ttl = await self._find_addresses(domain)
        if isinstance(found, LookupFailed):
            return found, FAILURE_TTL
        if found:
            return MxHosts(((0, domain),), ttl, implicit=True), ttl
        return NoSuchDomain(ttl), ttl

    async def _find_addresses(self, host: str) -> tuple[tuple[str, ...] | LookupFailed, float]:
        both = await asyncio.gather(self._query(host, "A"), self._query(host, "AAAA"))
        known = [found for found in both if not isinstance(found, LookupFailed)]
        addresses = tuple(dict.fromkeys(data.addr for found in known for data in found.data))
        if addresses:
            return addresses, min(found.ttl for found in known if found.data)
        for found in both:
            if isinstance(found, LookupFailed):
                return found, FAILURE_TTL
        return (), min(found.ttl for found in known)

    async def _find_texts(self, name: str) -> tuple[tuple[str, ...] | LookupFailed, float]:
        found = await self._query(name, "TXT")
        if isinstance(found, LookupFailed):
            return found, FAILURE_TTL
        return tuple(data.data.decode("utf-8", "replace") for data in found.data), found.ttl

    async def _query(self, name: str, kind: _Type) -> _Records | LookupFailed:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._follow(name, kind)
        except TimeoutError:
            reason = "timeout"
        except aiodns.error.DNSError as error:
            number = error.args[0] if error.args else None
            if number in _ABSENT:
                return _Records([], NEGATIVE_TTL, exists=number not in _NO_NAME)
            reason = _REASONS.get(number, f"error {number}")
        log.debug("lookup_failed", name=name, type=kind, reason=reason)
        return LookupFailed(reason)

    async def _follow(self, name: str, kind: _Type) -> _Records:
        wanted = aiodns.query_type_map[kind]
        ttl = MOST_TTL
        asked: set[str] = set()
        while len(asked) < ALIASES_FOLLOWED and name not in asked:
            asked.add(name)
            result = await self._ask(name, kind)
            ttl = min([ttl, *(float(record.ttl) for record in result.answer)])
            data = [record.data for record in result.answer if record.type == wanted]
            if data:
                return _Records(data, max(ttl, LEAST_TTL))
            alias = _last_alias(name, result)
            if alias == name:
                return _Records([], NEGATIVE_TTL)
            name = alias
        raise aiodns.error.DNSError(ares.ARES_EBADRESP, "aliases without end")

    async def _ask(self, name: str, kind: _Type) -> pycares.DNSResult:
        if self._channel is None:
            self._channel = aiodns.DNSResolver(self._nameservers or None, timeout=self._timeout, tries=self._tries)
        return await self._channel.query_dns(name, kind)


def _last_alias(name: str, result: pycares.DNSResult) -> str:
    """Where the answer's CNAME records lead from ``name``; ``name`` itself when nowhere."""
    aliases = {
        record.name.rstrip(".").lower(): record.data.cname.rstrip(".").lower()
        for record in result.answer
        if isinstance(record.data, pycares.CNAMERecordData)
    }
    seen: set[str] = set()
    while name in aliases and name not in seen:
        seen.add(name)
        name = aliases[name]
    return name
