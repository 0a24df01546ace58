"""DANE by a real validating resolver: zones that are signed, unsigned, expired or forged, and what we make of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.unbound import UNBOUND, Unbound

from sluice.adapters.dns.tlsa import DaneResolver
from sluice.adapters.embedded.ports import free_port
from sluice.domain.dane import DaneFailed, DaneHost, Tlsa
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import DaneHosts

pytestmark = pytest.mark.skipif(
    UNBOUND is None, reason="there is no Unbound, which validates DNSSEC here: make unbound"
)
KEY, FORGED = Tlsa(3, 1, 1, bytes(range(32))), Tlsa(3, 1, 1, bytes(32))
RECORDS = f"""
@ 300 IN MX 10 mx
@ 300 IN MX 20 plain
@ 300 IN MX 30 alias
mx 300 IN A 192.0.2.1
_25._tcp.mx 300 IN TLSA 3 1 1 {KEY.data.hex()}
plain 300 IN A 192.0.2.2
alias 300 IN CNAME mx
null 300 IN MX 0 .
"""


@pytest.fixture
async def dane(tmp_path: Path) -> AsyncIterator[DaneResolver]:
    resolver = Unbound(tmp_path, free_port())
    resolver.add("signed.example", RECORDS)
    resolver.add("plain.example", RECORDS, signed=False)
    resolver.add("guest.example", "@ 300 IN MX 10 mx.plain.example.")
    resolver.add("expired.example", RECORDS, expired=True)
    resolver.add("forged.example", RECORDS, forged="@ 300 IN MX 10 mx.plain.example.")
    resolver.add("key.example", RECORDS, forged=f"_25._tcp.mx 300 IN TLSA 3 1 1 {FORGED.data.hex()}")
    await resolver.start()
    asked = DaneResolver(resolver.address, timeout=20.0)
    yield asked
    await asked.close()
    await resolver.stop()


async def found(dane: DaneResolver, domain: str) -> dict[str, DaneHost | DaneFailed | None]:
    answer = await dane.hosts(domain)
    assert isinstance(answer, DaneHosts), answer
    return dict(answer.hosts)


async def test_what_is_signed_is_believed_and_what_is_denied_with_a_signature_is_not_there(dane: DaneResolver) -> None:
    hosts = await found(dane, "signed.example")
    assert hosts["mx.signed.example"] == DaneHost("mx.signed.example", (KEY,), ("mx.signed.example", "signed.example"))
    assert hosts["plain.signed.example"] is None
    alias = hosts["alias.signed.example"]
    assert isinstance(alias, DaneHost)
    assert alias.records == (KEY,)


async def test_a_null_mx_in_a_signed_zone_has_no_hosts(dane: DaneResolver) -> None:
    assert await found(dane, "null.signed.example") == {}


async def test_of_a_zone_without_signatures_nothing_is_believed(dane: DaneResolver) -> None:
    """The same records as above."""
    assert await found(dane, "plain.example") == {}


async def test_a_signed_domain_with_a_host_in_a_zone_without_signatures_has_no_records(dane: DaneResolver) -> None:
    assert await found(dane, "guest.example") == {"mx.plain.example": None}


@pytest.mark.parametrize("domain", ["expired.example", "forged.example"])
async def test_mail_waits_where_hosts_are_forged_or_signatures_expired(dane: DaneResolver, domain: str) -> None:
    """Somebody may be in the way who wants the mail: nothing is sent, to whatever host."""
    assert await dane.hosts(domain) == LookupFailed("servfail")


async def test_a_host_whose_records_are_forged_gets_nothing_and_others_do(dane: DaneResolver) -> None:
    hosts = await found(dane, "key.example")
    assert hosts["mx.key.example"] == DaneFailed("servfail")
    assert hosts["plain.key.example"] is None
