"""What every resolver promises: the memory twin, and the real one against a scripted name server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.scripted_dns import ScriptedDns

from sluice.adapters.dns import DnsResolver
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.ports.resolver import LookupFailed, MxHosts, NoSuchDomain, NullMx, Resolver

ZONE = {
    ("two.example", "MX"): ["20 mx2.two.example.", "10 MX1.two.example."],
    ("mx1.two.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("mx1.two.example", "AAAA"): ["2001:db8::1"],
    ("six.example", "AAAA"): ["2001:db8::6"],
    ("null.example", "MX"): ["0 ."],
    ("text.example", "TXT"): ["nothing for mail"],
    ("xn--bcher-kva.example", "MX"): ["5 mail.xn--bcher-kva.example."],
    ("alias.example", "CNAME"): ["two.example."],
}


class MovedClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
async def server() -> AsyncIterator[ScriptedDns]:
    server = ScriptedDns()
    server.records |= ZONE
    server.broken |= {"broken.example"}
    yield server
    server.stop()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def dns(server: ScriptedDns, clock: MovedClock) -> AsyncIterator[DnsResolver]:
    resolver = DnsResolver([await server.start()], timeout=1.0, tries=1, deadline=5, entries=3, now=clock.now)
    yield resolver
    await resolver.close()


@pytest.fixture(params=["memory", "dns"])
def resolver(request: pytest.FixtureRequest) -> Resolver:
    if request.param == "dns":
        return request.getfixturevalue("dns")
    two = MxHosts(((10, "mx1.two.example"), (20, "mx2.two.example")), 30)
    return MemoryResolver(
        {
            "two.example": two,
            "alias.example": two,
            "null.example": NullMx(30),
            "xn--bcher-kva.example": MxHosts(((5, "mail.xn--bcher-kva.example"),), 30),
            "broken.example": LookupFailed("servfail"),
        },
        {
            "mx1.two.example": ("192.0.2.1", "192.0.2.2", "2001:db8::1"),
            "six.example": ("2001:db8::6",),
            "broken.example": LookupFailed("servfail"),
        },
    )


async def test_hosts_come_lowest_preference_first_in_lower_case(resolver: Resolver) -> None:
    answer = await resolver.mx("two.example")
    assert isinstance(answer, MxHosts)
    assert answer.hosts == ((10, "mx1.two.example"), (20, "mx2.two.example"))
    assert not answer.implicit


async def test_a_domain_without_mx_is_its_own_host(resolver: Resolver) -> None:
    answer = await resolver.mx("six.example")
    assert isinstance(answer, MxHosts)
    assert answer.hosts == ((0, "six.example"),)
    assert answer.implicit


async def test_a_null_mx_is_told_from_none(resolver: Resolver) -> None:
    assert isinstance(await resolver.mx("null.example"), NullMx)


@pytest.mark.parametrize("domain", ["nowhere.example", "text.example"])
async def test_a_domain_without_mx_and_address_is_none(resolver: Resolver, domain: str) -> None:
    assert isinstance(await resolver.mx(domain), NoSuchDomain)


async def test_a_failing_server_is_no_answer(resolver: Resolver) -> None:
    assert await resolver.mx("broken.example") == LookupFailed("servfail")
    assert await resolver.addresses("broken.example") == LookupFailed("servfail")


async def test_a_label_domains_and_aliases_are_looked_up(resolver: Resolver) -> None:
    idn = await resolver.mx("xn--bcher-kva.example")
    alias = await resolver.mx("alias.example")
    assert isinstance(idn, MxHosts)
    assert isinstance(alias, MxHosts)
    assert idn.hosts == ((5, "mail.xn--bcher-kva.example"),)
    assert alias.hosts == ((10, "mx1.two.example"), (20, "mx2.two.example"))


async def test_addresses_of_both_families_and_none(resolver: Resolver) -> None:
    found = await resolver.addresses("mx1.two.example")
    assert not isinstance(found, LookupFailed)
    assert sorted(found) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert await resolver.addresses("nowhere.example") == ()


async def test_an_address_is_its_own_answer(resolver: Resolver) -> None:
    assert await resolver.addresses("127.0.0.1") == ("127.0.0.1",)
    assert await resolver.addresses("2001:DB8::1") == ("2001:db8::1",)


async def test_an_alias_answered_alone_is_followed(dns: DnsResolver, server: ScriptedDns) -> None:
    server.chase = False
    answer = await dns.mx("alias.example")
    assert isinstance(answer, MxHosts)
    assert ("two.example", "MX") in server.asked


async def test_aliases_in_a_circle_end(dns: DnsResolver, server: ScriptedDns) -> None:
    server.chase = False
    server.records["a.example", "CNAME"] = ["b.example."]
    server.records["b.example", "CNAME"] = ["a.example."]
    assert isinstance(await dns.mx("a.example"), LookupFailed)


async def test_a_silent_server_times_out(dns: DnsResolver, server: ScriptedDns) -> None:
    server.silent.add("silent.example")
    assert await dns.mx("silent.example") == LookupFailed("timeout")


async def test_names_that_dns_cannot_carry_do_not_exist(dns: DnsResolver) -> None:
    assert isinstance(await dns.mx("x" * 64 + ".example"), NoSuchDomain)
    assert isinstance(await dns.mx("a..example"), NoSuchDomain)


async def test_answers_are_kept_for_half_a_minute_at_least(
    dns: DnsResolver, server: ScriptedDns, clock: MovedClock
) -> None:
    await dns.mx("two.example")
    clock.time += 29
    await dns.mx("two.example")
    assert server.asked == [("two.example", "MX")]
    clock.time += 2
    await dns.mx("two.example")
    assert server.asked == [("two.example", "MX")] * 2


async def test_answers_are_kept_for_an_hour_at_most(dns: DnsResolver, server: ScriptedDns) -> None:
    server.ttl = 604_800
    answer = await dns.mx("two.example")
    assert isinstance(answer, MxHosts)
    assert answer.ttl == 3600


async def test_that_there_is_none_is_kept_and_failures_only_shortly(
    dns: DnsResolver, server: ScriptedDns, clock: MovedClock
) -> None:
    await dns.mx("nowhere.example")
    await dns.mx("broken.example")
    server.asked.clear()
    clock.time += 4
    await dns.mx("nowhere.example")
    await dns.mx("broken.example")
    assert server.asked == []
    clock.time += 2
    await dns.mx("nowhere.example")
    server.broken.clear()
    server.records["broken.example", "MX"] = ["1 mended.example."]
    assert isinstance(await dns.mx("broken.example"), MxHosts)
    assert server.asked == [("broken.example", "MX")]


async def test_the_same_question_is_asked_once_at_a_time(dns: DnsResolver, server: ScriptedDns) -> None:
    impatient = asyncio.ensure_future(dns.mx("two.example"))
    others = [asyncio.ensure_future(dns.mx("two.example")) for _ in range(20)]
    await asyncio.sleep(0)
    impatient.cancel()
    answers = await asyncio.gather(*others)
    assert all(isinstance(answer, MxHosts) for answer in answers)
    assert server.asked == [("two.example", "MX")]
    assert impatient.cancelled()


async def test_the_least_recently_used_answer_is_forgotten(dns: DnsResolver, server: ScriptedDns) -> None:
    for name in ("a.example", "b.example", "c.example", "d.example"):
        server.records[name, "MX"] = ["1 mx.example."]
        await dns.mx("two.example")
        await dns.mx(name)
    server.asked.clear()
    await dns.mx("two.example")
    await dns.mx("a.example")
    assert server.asked == [("a.example", "MX")]


async def test_text_records_are_put_together(dns: DnsResolver, server: ScriptedDns) -> None:
    server.records["_x.text.example", "TXT"] = ['"one" "two"']
    server.records["_y.text.example", "CNAME"] = ["_x.text.example."]
    assert await dns.txt("_x.text.example") == ("onetwo",)
    assert await dns.txt("_y.text.example") == ("onetwo",)
    assert await dns.txt("nowhere.example") == ()
    assert await dns.txt("broken.example") == LookupFailed("servfail")
