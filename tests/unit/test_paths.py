"""From a domain to hops, with what the domain publishes about their protection."""

from __future__ import annotations

import pytest
from tests.support.deliver import Worker

from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.memory.tls_policies import MemoryDaneRecords, MemoryStsPolicies
from sluice.deliver.paths import CONNECT_WITHIN, Path, Paths
from sluice.deliver.protections import Protections
from sluice.domain.conclusion import Recorder, Way
from sluice.domain.dane import DaneFailed, DaneHost, Tlsa
from sluice.domain.egress import NO_FAMILY, Egress
from sluice.domain.mta_sts import StsMode, StsPolicy
from sluice.domain.routing import RouteTable
from sluice.domain.site import Site
from sluice.domain.smtp import Broken, Tls
from sluice.ports.mailer import Hop
from sluice.ports.resolver import LookupFailed, MxHosts
from sluice.ports.tls_policies import DaneHosts

MX = MxHosts(((10, "one.example"), (20, "two.example")), 300)
SITE = Site(name="one.example")
EGRESS = Egress("default", "out.example")
KEY = DaneHost("one.example", (Tlsa(3, 1, 1, b"x" * 32),), ("one.example", "a.example"))
NEW = DaneHost("one.example", (Tlsa(3, 1, 1, b"y" * 32),), ("one.example", "a.example"))


class World:
    """Paths over the twins."""

    def __init__(self, routes: str = "*=mx") -> None:
        hosts = {"one.example": ("192.0.2.1", "2001:db8::1"), "two.example": ("192.0.2.2",)}
        self.resolver = MemoryResolver({"a.example": MX, "b.example": MX}, hosts)
        self.sts = MemoryStsPolicies()
        self.dane = MemoryDaneRecords()
        self.clock = MemoryClock()
        protections = Protections(self.sts, self.dane)
        self.paths = Paths(RouteTable.parse(routes), self.resolver, self.clock, (), protections, private_addresses=True)

    async def path(self, domain: str = "a.example") -> Path:
        found = self.paths.known(domain) or await self.paths.find(domain)
        assert isinstance(found, Path), found
        return found

    async def hops(self, domain: str = "a.example", site: Site = SITE, egress: Egress = EGRESS) -> tuple[Hop, ...]:
        found = await self.paths.hops(await self.path(domain), site, egress, "seed")
        assert isinstance(found, tuple), found
        return found

    async def refusal(self, egress: Egress = EGRESS) -> Broken:
        found = await self.paths.hops(await self.path(), SITE, egress, "seed")
        assert isinstance(found, Broken), found
        return found


def policy(mode: StsMode, *hosts: str) -> StsPolicy:
    return StsPolicy(mode, 86_400, hosts)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_domain_that_publishes_nothing_is_served_by_the_sites_rule(world: World) -> None:
    hops = await world.hops()
    assert [(hop.host, hop.address, hop.tls, hop.dane) for hop in hops] == [
        ("one.example", "192.0.2.1", "opportunistic", None),
        ("one.example", "2001:db8::1", "opportunistic", None),
        ("two.example", "192.0.2.2", "opportunistic", None),
    ]


async def test_families_take_turns_and_only_the_last_address_is_waited_for_long(world: World) -> None:
    world.resolver.hosts["one.example"] = ("192.0.2.1", "192.0.2.3", "2001:db8::1", "2001:db8::3")
    assert [(hop.address, hop.connect_within) for hop in await world.hops()] == [
        ("192.0.2.1", CONNECT_WITHIN),
        ("2001:db8::1", CONNECT_WITHIN),
        ("192.0.2.3", CONNECT_WITHIN),
        ("2001:db8::3", CONNECT_WITHIN),
        ("192.0.2.2", None),
    ]


async def test_enforced_mta_sts_leaves_the_hosts_it_names_and_has_them_verified(world: World) -> None:
    world.sts.policies["a.example"] = policy("enforce", "two.example")
    assert [(hop.host, hop.tls) for hop in await world.hops()] == [("two.example", "mta_sts")]


async def test_where_mta_sts_names_no_host_the_mail_waits(world: World) -> None:
    world.sts.policies["a.example"] = policy("enforce", "three.example")
    refusal = await world.refusal()
    assert (refusal.phase, refusal.reason) == ("resolve", "mta_sts")


async def test_mta_sts_in_testing_refuses_nothing(world: World) -> None:
    world.sts.policies["a.example"] = policy("testing", "one.example")
    hops = await world.hops()
    assert [(hop.host, hop.tls, hop.tls_testing, bool(hop.tls_failure)) for hop in hops] == [
        ("one.example", "opportunistic", True, False),
        ("one.example", "opportunistic", True, False),
        ("two.example", "opportunistic", False, True),
    ]


async def test_dane_goes_before_mta_sts(world: World) -> None:
    world.sts.policies["a.example"] = policy("enforce", "two.example")
    world.dane.domains["a.example"] = DaneHosts({"one.example": KEY, "two.example": None}, 60)
    hops = await world.hops()
    assert [(hop.host, hop.tls, hop.dane) for hop in hops] == [
        ("one.example", "dane", KEY),
        ("one.example", "dane", KEY),
        ("two.example", "mta_sts", None),
    ]


async def test_hosts_whose_tlsa_records_cannot_be_had_are_left_out(world: World) -> None:
    world.dane.domains["a.example"] = DaneHosts({"one.example": DaneFailed("servfail"), "two.example": KEY}, 60)
    assert [hop.host for hop in await world.hops()] == ["two.example"]
    await world.clock.advance(61)
    world.dane.domains["a.example"] = DaneHosts(dict.fromkeys(("one.example", "two.example"), DaneFailed("bogus")), 60)
    refusal = await world.refusal()
    assert (refusal.phase, refusal.reason) == ("resolve", "dns")


async def test_hosts_that_only_the_unvalidated_answer_names_get_no_mail(world: World) -> None:
    world.dane.domains["a.example"] = DaneHosts({"real.example": KEY}, 60)
    refusal = await world.refusal()
    assert (refusal.phase, refusal.reason) == ("resolve", "dane")


async def test_dnssec_that_does_not_hold_means_waiting_and_is_not_remembered(world: World) -> None:
    world.dane.domains["a.example"] = LookupFailed("servfail")
    assert await world.paths.find("a.example") == Broken("resolve", "dns", "DNSSEC: servfail")
    assert world.paths.known("a.example") is None


async def test_the_operators_rule_is_the_least_and_none_turns_it_off(world: World) -> None:
    world.dane.domains["a.example"] = DaneHosts(
        {"one.example": DaneHost("one.example", (), ()), "two.example": None}, 9
    )
    assert {hop.tls for hop in await world.hops(site=Site(name="x", tls="verified"))} == {"verified"}
    assert [hop.tls for hop in await world.hops()] == ["required", "required", "opportunistic"]
    world.sts.policies["b.example"] = policy("enforce", "three.example")
    assert {hop.tls for hop in await world.hops("b.example", Site(name="x", tls="none"))} == {"none"}


async def test_mail_of_a_protected_domain_never_goes_over_another_ones_connection(world: World) -> None:
    plain = await world.path("b.example")
    world.sts.policies["a.example"] = policy("enforce", "one.example", "two.example")
    enforced = await world.path("a.example")
    assert plain.hosts == enforced.hosts
    assert plain.key != enforced.key


async def test_fixed_routes_ask_for_no_policy() -> None:
    world = World("*=smtp://relay.example:25")
    world.sts.policies["a.example"] = policy("enforce", "three.example")
    world.dane.domains["a.example"] = LookupFailed("servfail")
    assert [(hop.host, hop.tls) for hop in await world.hops()] == [("relay.example", "opportunistic")]


async def test_a_path_in_long_use_takes_over_new_tlsa_records(world: World) -> None:
    world.dane.domains["a.example"] = DaneHosts({"one.example": KEY, "two.example": None}, 60)
    path = await world.path()
    world.dane.domains["a.example"] = DaneHosts({"one.example": NEW, "two.example": None}, 60)

    async def record() -> DaneHost | None:
        hops = await world.paths.hops(path, SITE, EGRESS, "seed")
        assert isinstance(hops, tuple)
        return hops[0].dane

    assert await record() == KEY
    await world.clock.advance(61)
    assert await record() == NEW
    await world.clock.advance(61)
    world.dane.domains["a.example"] = DaneHosts({}, 60)
    assert await record() == KEY, "mail queued under DANE is not sent without it"


def test_the_outcome_says_what_a_policy_in_testing_found() -> None:
    worker = Worker()
    way = Way("one.example", "192.0.2.1", Tls("opportunistic", "TLSv1.3", "X", "mta_sts: expired"), "default")
    outcome = Recorder("test", b"key").of_mail(worker.envelope("m"), "delivered", 0.0, way=way)
    assert outcome.tls is not None
    assert (outcome.tls.policy, outcome.tls.failure) == ("opportunistic", "mta_sts: expired")


async def test_each_address_is_called_from_one_of_its_own_family(world: World) -> None:
    egress = Egress("both", "both.example", ("198.51.100.1", "2001:db8:1::1"))
    assert [(hop.address, hop.source_address, hop.ehlo) for hop in await world.hops(egress=egress)] == [
        ("192.0.2.1", "198.51.100.1", "both.example"),
        ("2001:db8::1", "2001:db8:1::1", "both.example"),
        ("192.0.2.2", "198.51.100.1", "both.example"),
    ]


async def test_addresses_of_a_family_that_the_egress_lacks_are_left_out(world: World) -> None:
    four, six = Egress("four", "out.example", ("198.51.100.1",)), Egress("six", "out.example", ("2001:db8:1::1",))
    assert [hop.address for hop in await world.hops(egress=four)] == ["192.0.2.1", "192.0.2.2"]
    assert [hop.address for hop in await world.hops(egress=six)] == ["2001:db8::1"]
    world.resolver.hosts["one.example"] = ("192.0.2.1",)
    assert await world.refusal(six) == NO_FAMILY


async def test_a_fixed_host_is_called_from_every_address_of_the_egress_in_turn() -> None:
    world = World("*=smtp://relay.example:2525")
    egress = Egress("both", "both.example", ("198.51.100.1", "2001:db8:1::1"))
    assert [(hop.host, hop.source_address, hop.connect_within) for hop in await world.hops(egress=egress)] == [
        ("relay.example", "198.51.100.1", CONNECT_WITHIN),
        ("relay.example", "2001:db8:1::1", None),
    ]
