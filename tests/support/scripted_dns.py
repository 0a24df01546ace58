"""A name server on the loopback address that answers from a script."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tokenizer


class ScriptedDns(asyncio.DatagramProtocol):
    """Answers for the names in ``records``: (name, type) → record data as in a zone file.

    Names in ``broken`` get SERVFAIL, names in ``silent`` nothing. ``asked`` keeps every question. Without ``chase`` an
    alias is answered alone, as by a server that does not recurse. Answers about names at or below those in ``signed``
    have the AD bit, as from a validating resolver, unless an alias leads elsewhere. Names in ``long`` are answered by
    TCP alone. With ``strays``, garbage and an answer with another id come before each answer by UDP.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.broken: set[str] = set()
        self.silent: set[str] = set()
        self.signed: set[str] = set()
        self.long: set[str] = set()
        self.strays = False
        self.port = 0
        self.asked: list[tuple[str, str]] = []
        self.chase = True
        self.ttl = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the address to ask, ``127.0.0.1:port``."""
        loop = asyncio.get_running_loop()
        while self._server is None:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
            self.port = self._transport.get_extra_info("sockname")[1]
            try:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            except OSError:  # the port is free for UDP only: look for another
                self._transport.close()
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Listen no more."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        if answer := self._respond(await reader.readexactly(length), by_tcp=True):
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._respond(data, by_tcp=False)
        if answer and self._transport is not None:
            if self.strays:
                self._transport.sendto(b"garbage", addr)
                self._transport.sendto(bytes((answer[0] ^ 1,)) + answer[1:], addr)
            self._transport.sendto(answer, addr)

    def _respond(self, data: bytes, *, by_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if name in self.long and not by_tcp:
            response.flags |= dns.flags.TC
        elif name in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._answer(response, name, kind)
        return response.to_wire()

    def _answer(self, response: dns.message.Message, name: str, kind: str) -> None:
        secure = self._is_signed(name)
        seen: set[str] = set()
        while kind != "CNAME" and (name, "CNAME") in self.records and name not in seen:
            seen.add(name)
            target = self.records[name, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", target))
            name = target.rstrip(".")
            secure = secure and self._is_signed(name)
            if not self.chase:
                return
        if secure:
            response.flags |= dns.flags.AD
        data = self.records.get((name, kind))
        if data:
            owner = dns.name.from_text(name)
            found = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
            for text in data:
                found.add(_record(kind, text), self.ttl)
            response.answer.append(found)
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)

    def _is_signed(self, name: str) -> bool:
        return any(name == zone or name.endswith("." + zone) for zone in self.signed)


def _record(kind: str, text: str) -> dns.rdata.Rdata:
    rdtype = dns.rdatatype.from_text(kind)
    if text.startswith("\\# "):
        # As RFC 3597 writes any record, so that one can break its type's rules.
        return dns.rdata.GenericRdata.from_text(dns.rdataclass.IN, rdtype, dns.tokenizer.Tokenizer(text))
    return dns.rdata.from_text(dns.rdataclass.IN, rdtype, text)
