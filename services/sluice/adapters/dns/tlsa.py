"""TLSA records of a domain's mail hosts, by a validating resolver (RFC 7672 section 2)."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import msgspec
import structlog
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TLSA import TLSA

from sluice.adapters.dns.cache import AnswerCache
from sluice.adapters.dns.exchange import NoAnswer, exchange
from sluice.adapters.dns.resolver import FAILURE_TTL, LEAST_TTL, MOST_TTL, NEGATIVE_TTL
from sluice.domain.dane import DaneFailed, DaneHost, Tlsa, usable
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import DaneHosts

log = structlog.get_logger(__name__)

MOST_HOSTS = 32
"""Mail hosts of one domain that are looked at, the most preferred; the others count as not vouched for."""
_PAYLOAD = 1232
_Entry = DaneHost | DaneFailed | None


class _Failed(Exception):
    """No answer that could be relied on."""


class _Answer(msgspec.Struct, frozen=True):
    """``secure``: the resolver has validated the whole answer. ``name`` is where its aliases lead. ``damaged``: there
    were records that cannot be read besides."""

    secure: bool
    name: str
    records: tuple[object, ...]
    ttl: float
    damaged: bool = False


class DaneResolver:
    """A :class:`sluice.ports.tls_policies.DaneRecords` that asks the validating resolver at ``server``.

    ``server`` is ``address`` or ``address:port`` (``[address]:port`` for IPv6); raises :class:`ValueError` for anything
    else. Its AD bit is believed, so the way to it must be safe from others: this machine, best of all. A query is given
    ``timeout`` seconds, ``tries`` times. Keeps up to ``entries`` answers, 30 seconds to an hour; ``now`` is a monotonic
    clock in seconds.
    """

    def __init__(
        self,
        server: str,
        *,
        timeout: float = 3.0,
        tries: int = 2,
        entries: int = 50_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._port = _endpoint(server)
        self._timeout = timeout
        self._tries = tries
        self._domains: AnswerCache[str, DaneHosts | LookupFailed] = AnswerCache(entries, now)
        self._hosts: AnswerCache[str, tuple[_Entry, float]] = AnswerCache(entries, now)

    async def hosts(self, domain: str) -> DaneHosts | LookupFailed:
        """As the port says. ``names`` of a host are those of RFC 7672 section 3.2.2."""
        return await self._domains.get(domain, lambda: self._find(domain))

    async def close(self) -> None:
        """Give up what is under way."""
        await self._domains.close()
        await self._hosts.close()

    async def _find(self, domain: str) -> tuple[DaneHosts | LookupFailed, float]:
        try:
            mx = await self._ask(domain, dns.rdatatype.MX)
        except _Failed as failure:
            log.debug("dane_lookup_failed", name=domain, type="MX", reason=str(failure))
            return LookupFailed(str(failure)), FAILURE_TTL
        if not mx.secure:
            return DaneHosts({}, mx.ttl), mx.ttl
        exchanges = sorted({(each.preference, _text(each.exchange)) for each in mx.records if isinstance(each, MX)})
        # Without MX records a domain is its own mail host (RFC 5321 section 5.1); "." is none (RFC 7505).
        names = list(dict.fromkeys(host for _, host in exchanges if host)) if exchanges else [domain]
        found = await asyncio.gather(*(self._host(host) for host in names[:MOST_HOSTS]))
        domains = tuple(dict.fromkeys((domain, mx.name)))
        hosts = {host: _named(entry, domains) for host, (entry, _) in zip(names, found, strict=False)}
        ttl = min([mx.ttl, *(each for _, each in found)])
        return DaneHosts(hosts, ttl), ttl

    async def _host(self, host: str) -> tuple[_Entry, float]:
        async def ask() -> tuple[tuple[_Entry, float], float]:
            try:
                entry, ttl = await self._find_host(host)
            except _Failed as failure:
                log.debug("dane_lookup_failed", name=host, type="TLSA", reason=str(failure))
                entry, ttl = DaneFailed(str(failure)), FAILURE_TTL
            return (entry, ttl), ttl

        return await self._hosts.get(host, ask)

    async def _find_host(self, host: str) -> tuple[_Entry, float]:
        """TLSA records are asked for only where the host's addresses are signed: servers of unsigned zones have been
        seen to choke on the question, and no answer of theirs could be believed (section 2.2.2)."""
        bases, ttl = await self._bases(host)
        for base in bases:
            answer = await self._ask(f"_25._tcp.{base}", dns.rdatatype.TLSA)
            ttl = min(ttl, answer.ttl)
            records = [each for each in answer.records if isinstance(each, TLSA)]
            if answer.secure and (records or answer.damaged):
                fit = usable(Tlsa(each.usage, each.selector, each.mtype, each.cert) for each in records)
                return DaneHost(base, fit, tuple(dict.fromkeys((base, host)))), ttl
        return None, ttl

    async def _bases(self, host: str) -> tuple[list[str], float]:
        """Names under which the host's TLSA records may lie, the best first (section 2.2.3)."""
        answer = await self._ask(host, dns.rdatatype.A)
        if not answer.records:
            six = await self._ask(host, dns.rdatatype.AAAA)
            answer = six if six.records else answer
        if answer.secure:
            return list(dict.fromkeys((answer.name, host))), answer.ttl
        if answer.name != host:
            alias = await self._ask(host, dns.rdatatype.CNAME)
            if alias.secure:
                return [host], min(answer.ttl, alias.ttl)
        return [], answer.ttl

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> _Answer:
        try:
            query = dns.message.make_query(name, kind, want_dnssec=True, payload=_PAYLOAD)
        except dns.exception.DNSException as error:
            raise _Failed("not a name") from error
        query.flags |= dns.flags.AD
        response = await self._exchange(query)
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise _Failed(dns.rcode.to_text(response.rcode()).lower())
        secure = bool(response.flags & dns.flags.AD)
        try:
            chain = response.resolve_chaining()
        except dns.exception.DNSException as error:
            raise _Failed("contradictory answer") from error
        if chain.answer is None:
            negative = min(float(chain.minimum_ttl), NEGATIVE_TTL)
            name = _text(chain.canonical_name)
            return _Answer(secure, name, (), max(negative, LEAST_TTL), bool(response.errors))
        ttl = min(max(float(chain.minimum_ttl), LEAST_TTL), MOST_TTL)
        return _Answer(secure, _text(chain.canonical_name), tuple(chain.answer), ttl, bool(response.errors))

    async def _exchange(self, query: dns.message.QueryMessage) -> dns.message.QueryMessage:
        reason = "timeout"
        for _ in range(self._tries):
            try:
                async with asyncio.timeout(self._timeout):
                    response = await exchange(query, self._address, self._port)
            except TimeoutError:
                continue
            except NoAnswer as failure:
                reason = str(failure)
            else:
                if isinstance(response, dns.message.QueryMessage):
                    return response
                reason = "bad response"
        raise _Failed(reason)


def _named(entry: _Entry, domains: tuple[str, ...]) -> _Entry:
    if not isinstance(entry, DaneHost):
        return entry
    return msgspec.structs.replace(entry, names=tuple(dict.fromkeys((*entry.names, *domains))))


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _endpoint(server: str) -> tuple[str, int]:
    if server.startswith("["):
        address, _, port = server[1:].partition("]")
        port = port.removeprefix(":")
    else:
        address, _, port = server.partition(":") if server.count(":") == 1 else (server, "", "")
    return str(ipaddress.ip_address(address)), int(port or 53)
