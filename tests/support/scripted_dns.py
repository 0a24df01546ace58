"""A name server on the loopback address that answers from a script."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class ScriptedDns(asyncio.DatagramProtocol):
    """Answers for the names in ``records``: (name, type) → record data as in a zone file.

    Names in ``broken`` get SERVFAIL, names in ``silent`` nothing. ``asked`` keeps every question. Without ``chase`` an
    alias is answered alone, as by a server that does not recurse.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.broken: set[str] = set()
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.chase = True
        self.ttl = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> str:
        """Listen; the address to ask, ``127.0.0.1:port``."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return "127.0.0.1:{}".format(self._transport.get_extra_info("sockname")[1])

    def stop(self) -> None:
        """Listen no more."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent or self._transport is None:
            return
        response = dns.message.make_response(query, recursion_available=True)
        if name in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._answer(response, name, kind)
        self._transport.sendto(response.to_wire(), addr)

    def _answer(self, response: dns.message.Message, name: str, kind: str) -> None:
        seen: set[str] = set()
        while (name, "CNAME") in self.records and name not in seen:
            seen.add(name)
            target = self.records[name, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", target))
            name = target.rstrip(".")
            if not self.chase:
                return
        data = self.records.get((name, kind))
        if data:
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", kind, *data))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
