"""Which way a mail leaves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import RuleError
from sluice.domain.routing import (
    LOOP,
    NO_ADDRESS,
    MxRoute,
    RelayRoute,
    RouteTable,
    StaticRoute,
    interleaved,
    mx_targets,
    usable_addresses,
)

MAILBOX = StaticRoute(host="127.0.0.1", port=2525, tls="none")


def test_the_nearest_route_wins() -> None:
    table = RouteTable.parse(
        "*=smtp://127.0.0.1:2525?tls=none; out.example=mx\n"
        "*.corp.example=smtps://mail.corp.example, *.lab.corp.example=smtp://u@relay.example?password_ref=LAB"
    )
    assert table.route_for("anything.example") == MAILBOX
    assert table.route_for("out.example") == MxRoute()
    assert table.route_for("sub.out.example") == MAILBOX
    assert table.route_for("corp.example") == MAILBOX
    assert table.route_for("a.corp.example") == StaticRoute(host="mail.corp.example", port=465, implicit_tls=True)
    assert table.route_for("b.lab.corp.example") == RelayRoute(
        host="relay.example", port=587, username="u", password_ref="LAB", tls="required"
    )


def test_without_routes_mail_goes_by_mx() -> None:
    assert RouteTable.parse("  ").route_for("any.example") == MxRoute()


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "*=http://x",
        "*=smtp://",
        "*=smtp://x:99999",
        "*=smtp://x?tls=perhaps",
        "*=smtp://x?color=red",
        "*=smtp://x/path",
        "*=smtp://user@x",
        "*=smtp://x?password_ref=P",
        "a b=mx",
        "exa*mple=mx",
        "a.example=mx a.example=mx",
    ],
)
def test_what_cannot_be_followed_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match="routes: "):
        RouteTable.parse(text)


def test_every_wrong_route_is_named_and_no_password_is_repeated() -> None:
    with pytest.raises(RuleError) as caught:
        RouteTable.parse("a.example=smtp://u:s3cret@x b.example=nonsense c.example=mx")
    told = str(caught.value)
    assert "a.example" in told
    assert "b.example" in told
    assert "c.example" not in told
    assert "s3cret" not in told


def test_hosts_are_tried_by_preference() -> None:
    assert mx_targets([(20, "b.example"), (10, "A.example.")], own_names=(), seed="m") == ("a.example", "b.example")


def test_equal_preferences_share_the_load_and_a_seed_keeps_its_order() -> None:
    hosts = [(10, f"mx{number}.example") for number in range(4)]
    firsts = Counter(mx_targets(hosts, own_names=(), seed=str(seed))[0] for seed in range(2000))  # type: ignore[index]
    assert min(firsts.values()) > 400
    assert mx_targets(hosts, own_names=(), seed="x") == mx_targets(hosts[::-1], own_names=(), seed="x")


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcdef")), min_size=1), st.text())
def test_every_host_is_tried_once_in_order(hosts: list[tuple[int, str]], seed: str) -> None:
    found = mx_targets(hosts, own_names=(), seed=seed)
    assert isinstance(found, tuple)
    assert sorted(found) == sorted({host for _, host in hosts})
    best = {host: min(preference for preference, each in hosts if each == host) for host in found}
    assert [best[host] for host in found] == sorted(best.values())


def test_mail_never_comes_back_to_where_it_is() -> None:
    hosts = [(10, "front.example"), (20, "Us.example"), (20, "peer.example"), (30, "back.example")]
    assert mx_targets(hosts, own_names={"us.example"}, seed="m") == ("front.example",)
    assert mx_targets(hosts[1:], own_names={"us.example"}, seed="m") is LOOP
    assert mx_targets([], own_names={"us.example"}, seed="m") is NO_ADDRESS


def test_a_domain_cannot_aim_at_our_own_network() -> None:
    mixed = (
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "0.0.0.0",
        "93.184.215.14",
    )
    assert usable_addresses(mixed) == ("93.184.215.14",)
    assert usable_addresses(mixed, private=True) == mixed
    assert usable_addresses(("nonsense", "224.0.0.1", "2a00:1450:4025::1a")) == ("2a00:1450:4025::1a",)


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        ([], ()),
        (["a::1"], ("a::1",)),
        (["192.0.2.1", "192.0.2.2", "a::1", "a::2"], ("192.0.2.1", "a::1", "192.0.2.2", "a::2")),
        (["a::1", "a::2", "a::3", "192.0.2.1"], ("a::1", "192.0.2.1", "a::2", "a::3")),
    ],
)
def test_families_take_turns_beginning_with_the_first(given: list[str], tried: tuple[str, ...]) -> None:
    assert interleaved(given) == tried


@given(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "a::1", "a::2"]), unique=True))
def test_no_address_is_lost_by_taking_turns(addresses: list[str]) -> None:
    assert sorted(interleaved(addresses)) == sorted(addresses)
