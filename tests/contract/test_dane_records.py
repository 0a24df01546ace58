"""What every source of TLSA records promises: the memory twin, and the real one against a scripted name server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.scripted_dns import ScriptedDns

from sluice.adapters.dns.tlsa import DaneResolver
from sluice.adapters.memory.tls_policies import MemoryDaneRecords
from sluice.domain.dane import DaneFailed, DaneHost, Tlsa
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import DaneHosts, DaneRecords

KEY = Tlsa(3, 1, 1, bytes(range(32)))
TEXT = "3 1 1 " + KEY.data.hex()
ZONE = {
    ("good.example", "MX"): ["10 mx.good.example.", "20 plain.good.example.", "30 unusable.good.example."],
    ("mx.good.example", "A"): ["192.0.2.1"],
    ("_25._tcp.mx.good.example", "TLSA"): [TEXT],
    ("plain.good.example", "AAAA"): ["2001:db8::1"],
    ("unusable.good.example", "A"): ["192.0.2.2"],
    ("_25._tcp.unusable.good.example", "TLSA"): ["0 0 1 " + KEY.data.hex(), r"\# 4 03010100"],
    ("unsigned.example", "MX"): ["10 mx.good.example."],
    ("guest.good.example", "MX"): ["10 mx.unsigned.example."],
    ("mx.unsigned.example", "A"): ["192.0.2.3"],
    ("_25._tcp.mx.unsigned.example", "TLSA"): [TEXT],
    ("itself.good.example", "A"): ["192.0.2.4"],
    ("_25._tcp.itself.good.example", "TLSA"): [TEXT],
    ("half.good.example", "MX"): ["10 mx.good.example.", "20 bad.good.example."],
    ("bad.good.example", "A"): ["192.0.2.5"],
    ("null.good.example", "MX"): ["0 ."],
}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedDns]:
    server = ScriptedDns()
    server.records |= ZONE
    server.signed |= {"good.example"}
    server.broken |= {"bogus.example", "_25._tcp.bad.good.example"}
    yield server
    server.stop()


class MovedClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def dane(server: ScriptedDns, clock: MovedClock) -> AsyncIterator[DaneResolver]:
    resolver = DaneResolver(await server.start(), timeout=1.0, tries=1, now=clock.now)
    yield resolver
    await resolver.close()


def host(name: str, domain: str, *records: Tlsa) -> DaneHost:
    return DaneHost(name, records, tuple(dict.fromkeys((name, domain))))


@pytest.fixture(params=["memory", "dns"])
def records(request: pytest.FixtureRequest) -> DaneRecords:
    if request.param == "dns":
        return request.getfixturevalue("dane")
    good = {
        "mx.good.example": host("mx.good.example", "good.example", KEY),
        "plain.good.example": None,
        "unusable.good.example": host("unusable.good.example", "good.example"),
    }
    half = {"mx.good.example": host("mx.good.example", "half.good.example", KEY)}
    return MemoryDaneRecords(
        {
            "good.example": DaneHosts(good, 30),
            "bogus.example": LookupFailed("servfail"),
            "half.good.example": DaneHosts({**half, "bad.good.example": DaneFailed("servfail")}, 30),
        }
    )


async def found(records: DaneRecords, domain: str) -> dict[str, DaneHost | DaneFailed | None]:
    answer = await records.hosts(domain)
    assert isinstance(answer, DaneHosts), answer
    return dict(answer.hosts)


async def test_each_host_of_a_signed_set_is_known_with_its_usable_records(records: DaneRecords) -> None:
    hosts = await found(records, "good.example")
    assert hosts["mx.good.example"] == host("mx.good.example", "good.example", KEY)
    assert hosts["plain.good.example"] is None
    assert hosts["unusable.good.example"] == host("unusable.good.example", "good.example")


async def test_of_an_unsigned_set_nothing_is_vouched_for(records: DaneRecords) -> None:
    assert await found(records, "unsigned.example") == {}


async def test_wrong_signatures_mean_that_mail_waits(records: DaneRecords) -> None:
    assert await records.hosts("bogus.example") == LookupFailed("servfail")


async def test_a_host_whose_records_cannot_be_had_is_told_from_one_without(records: DaneRecords) -> None:
    hosts = await found(records, "half.good.example")
    assert isinstance(hosts["mx.good.example"], DaneHost)
    assert hosts["bad.good.example"] == DaneFailed("servfail")


async def test_unsigned_hosts_are_not_asked_for_records(dane: DaneResolver, server: ScriptedDns) -> None:
    assert await found(dane, "guest.good.example") == {"mx.unsigned.example": None}
    assert not [name for name, kind in server.asked if kind == "TLSA"]


async def test_records_that_are_not_signed_themselves_count_for_nothing(
    dane: DaneResolver, server: ScriptedDns
) -> None:
    server.records["_25._tcp.plain.good.example", "CNAME"] = ["_25._tcp.mx.unsigned.example."]
    assert (await found(dane, "good.example"))["plain.good.example"] is None


async def test_a_domain_without_mx_is_its_own_host(dane: DaneResolver) -> None:
    hosts = await found(dane, "itself.good.example")
    assert hosts == {"itself.good.example": host("itself.good.example", "itself.good.example", KEY)}


async def test_a_null_mx_has_no_hosts(dane: DaneResolver) -> None:
    assert await found(dane, "null.good.example") == {}


async def test_the_records_lie_where_the_hosts_alias_leads_else_at_its_own_name(
    dane: DaneResolver, server: ScriptedDns
) -> None:
    """RFC 7672 section 2.2.3."""
    server.records |= {
        ("a.good.example", "MX"): ["10 alias.good.example."],
        ("alias.good.example", "CNAME"): ["mx.good.example."],
        ("b.good.example", "MX"): ["10 bare.good.example."],
        ("bare.good.example", "CNAME"): ["plain.good.example."],
        ("_25._tcp.bare.good.example", "TLSA"): [TEXT],
        ("c.good.example", "MX"): ["10 out.good.example."],
        ("out.good.example", "CNAME"): ["mx.unsigned.example."],
        ("_25._tcp.out.good.example", "TLSA"): [TEXT],
    }
    names = ("mx.good.example", "alias.good.example", "a.good.example")
    assert await found(dane, "a.good.example") == {"alias.good.example": DaneHost("mx.good.example", (KEY,), names)}
    assert await found(dane, "b.good.example") == {
        "bare.good.example": host("bare.good.example", "b.good.example", KEY)
    }
    assert await found(dane, "c.good.example") == {"out.good.example": host("out.good.example", "c.good.example", KEY)}


async def test_an_aliased_domain_may_be_certified_under_either_name(dane: DaneResolver, server: ScriptedDns) -> None:
    server.records["also.good.example", "CNAME"] = ["good.example."]
    entry = (await found(dane, "also.good.example"))["mx.good.example"]
    assert isinstance(entry, DaneHost)
    assert entry.names == ("mx.good.example", "also.good.example", "good.example")


async def test_a_resolver_that_is_silent_or_gone_means_that_mail_waits(dane: DaneResolver, server: ScriptedDns) -> None:
    server.silent |= {"good.example"}
    assert await dane.hosts("good.example") == LookupFailed("timeout")
    assert await DaneResolver("127.0.0.1:1", timeout=1.0, tries=1).hosts("good.example") in (
        LookupFailed("unreachable"),
        LookupFailed("timeout"),
    )


async def test_a_lost_answer_is_asked_for_again(server: ScriptedDns) -> None:
    dane = DaneResolver(await server.start(), timeout=0.5, tries=2)
    server.silent |= {"good.example"}
    asking = dane.hosts("good.example")
    server.datagram_received = _mending(server)  # type: ignore[method-assign]
    assert isinstance(await asking, DaneHosts)


def _mending(server: ScriptedDns):  # type: ignore[no-untyped-def]
    original = server.datagram_received

    def received(data: bytes, addr: tuple[str, int]) -> None:
        original(data, addr)
        server.silent.clear()

    return received


async def test_answers_are_kept_and_failures_only_shortly(
    dane: DaneResolver, server: ScriptedDns, clock: MovedClock
) -> None:
    await dane.hosts("good.example")
    await dane.hosts("bogus.example")
    server.asked.clear()
    clock.time += 4
    await dane.hosts("good.example")
    await dane.hosts("bogus.example")
    assert server.asked == []
    server.broken.clear()
    server.records["_25._tcp.mx.good.example", "TLSA"] = ["3 1 1 " + "ff" * 32]
    clock.time += 2
    assert await found(dane, "bogus.example") == {}
    clock.time += 25
    entry = (await found(dane, "good.example"))["mx.good.example"]
    assert isinstance(entry, DaneHost)
    assert entry.records[0].data == b"\xff" * 32


@pytest.mark.parametrize("server", ["localhost", "127.0.0.1:dns", "resolver.example:53", ""])
def test_a_resolver_is_an_address(server: str) -> None:
    with pytest.raises(ValueError, match=r"address|int"):
        DaneResolver(server)


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:5353", "[::1]"])
def test_a_port_may_be_given(server: str) -> None:
    DaneResolver(server)


async def test_long_answers_come_by_tcp(dane: DaneResolver, server: ScriptedDns) -> None:
    server.long |= {"_25._tcp.mx.good.example"}
    assert isinstance((await found(dane, "good.example"))["mx.good.example"], DaneHost)
    assert server.asked.count(("_25._tcp.mx.good.example", "TLSA")) == 2


async def test_a_record_that_cannot_be_read_does_not_hide_the_others(dane: DaneResolver, server: ScriptedDns) -> None:
    server.records["_25._tcp.mx.good.example", "TLSA"].append(r"\# 2 0301")
    entry = (await found(dane, "good.example"))["mx.good.example"]
    assert entry == host("mx.good.example", "good.example", KEY)
    server.records["_25._tcp.plain.good.example", "TLSA"] = [r"\# 2 0301"]
    server.records["more.good.example", "MX"] = ["10 plain.good.example."]
    # plain.good.example's absence of records is remembered for a while yet
    fresh = DaneResolver(f"127.0.0.1:{server.port}", timeout=1.0, tries=1)
    assert await found(fresh, "more.good.example") == {
        "plain.good.example": host("plain.good.example", "more.good.example")
    }


async def test_answers_to_other_questions_are_passed_over(dane: DaneResolver, server: ScriptedDns) -> None:
    server.strays = True
    assert isinstance((await found(dane, "good.example"))["mx.good.example"], DaneHost)
