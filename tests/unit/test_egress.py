"""Which way out a mail takes, and how that is written."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.egress import NO_FAMILY, Egress, Egresses
from sluice.domain.errors import RuleError
from sluice.domain.shaping import Rate
from sluice.domain.site import Site, lane_for

POOLS = Egresses(
    [
        Egress("one", "one.example", pool="shared"),
        Egress("two", "two.example", pool="shared"),
        Egress("three", "three.example", pool="shared"),
        Egress("own", "own.example", pool="acme"),
    ]
)


def test_what_is_written_is_read() -> None:
    first = "warm=192.0.2.1+2001:db8::1?ehlo=out.example&pool=main&rate=5000/h,burst=50&connections=20"
    text = f"{first}; cold=192.0.2.2\nany="
    assert Egresses.parse(text, "host.example").all == (
        Egress("warm", "out.example", ("192.0.2.1", "2001:db8::1"), "main", Rate(5000, 3600.0, 50), 20),
        Egress("cold", "host.example", ("192.0.2.2",)),
        Egress("any", "host.example"),
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a=nowhere", "nowhere"),
        ("a=192.0.2.1?speed=9", "speed"),
        ("a=192.0.2.1?rate=fast", "fast"),
        ("a=192.0.2.1?connections=0", "connections"),
        ("192.0.2.1", "NAME=ADDRESS"),
        ("A=192.0.2.1", "small letters"),
        ("a=192.0.2.1 a=192.0.2.2", "name of its own"),
        ("a=192.0.2.1?pool=b b=192.0.2.2", "of a pool"),
        ("a=192.0.2.1?ehlo", "options"),
    ],
)
def test_what_is_written_wrong_is_refused_by_name(text: str, names: str) -> None:
    with pytest.raises(RuleError, match=names):
        Egresses.parse(text, "host.example")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(RuleError) as refused:
        Egresses.parse("a=x b=y c=192.0.2.1", "host.example")
    assert len(str(refused.value).splitlines()) == 2


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RuleError):
        Egresses.parse(text, "host.example")


def test_a_pool_is_used_evenly_and_a_mail_keeps_its_way() -> None:
    chosen = [POOLS.choose("shared", f"mail-{number}").name for number in range(3000)]
    assert all(800 < chosen.count(name) < 1200 for name in ("one", "two", "three"))
    assert chosen == [POOLS.choose(None, f"mail-{number}").name for number in range(3000)]


def test_every_lane_of_a_site_uses_the_whole_pool() -> None:
    """Both are chosen by the mail's id."""
    site = Site(name="big", lanes=3, connections=9)
    seen = Counter((lane_for(site, f"m{n}"), POOLS.choose("shared", f"m{n}").name) for n in range(3000))
    assert len(seen) == 9
    assert min(seen.values()) > 200


def test_an_egress_and_a_pool_are_named_alike_and_unknown_names_mean_the_first_pool() -> None:
    assert {POOLS.choose("acme", str(key)).name for key in range(50)} == {"own"}
    assert {POOLS.choose("two", str(key)).name for key in range(50)} == {"two"}
    assert {POOLS.choose("gone", str(key)).name for key in range(50)} == {"one", "two", "three"}


def test_another_stands_in_while_one_is_switched_off() -> None:
    one, two, _, own = POOLS.all
    assert POOLS.instead(one, {}) is one
    assert POOLS.instead(one, {"one": ""}).name == "two"
    assert POOLS.instead(one, {"one": "", "two": ""}).name == "three"
    assert POOLS.instead(one, {"one": "own"}) is own
    assert POOLS.instead(two, {"one": "own"}) is two
    assert POOLS.instead(one, {"one": "two", "two": "three"}).name == "three"


def test_where_nobody_can_stand_in_the_mail_goes_its_way() -> None:
    """A tenant with an address of its own does not get onto another's, unless a rule names it."""
    one, *_, own = POOLS.all
    assert POOLS.instead(own, {"own": ""}) is own
    assert POOLS.instead(one, {"one": "", "two": "", "three": ""}) is one


def test_an_address_is_called_from_its_own_family() -> None:
    both = Egress("both", "x", ("192.0.2.1", "2001:db8::1"))
    assert [both.source_for(address) for address in ("198.51.100.1", "2001:db8::9")] == ["192.0.2.1", "2001:db8::1"]
    assert Egress("four", "x", ("192.0.2.1",)).source_for("2001:db8::9") == NO_FAMILY
    assert Egress("any", "x").source_for("2001:db8::9") is None


def test_names_in_rules_must_be_there() -> None:
    POOLS.check({"one", "shared"}, "sites.toml: egress")
    with pytest.raises(RuleError, match=r"sites\.toml: egress: .* named sharde; there are one, .*, acme"):
        POOLS.check({"one", "sharde"}, "sites.toml: egress")
