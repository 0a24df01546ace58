"""Sites and lanes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.shaping import Rate
from sluice.domain.site import Penalty, Site, SiteGroup, SiteRules, lane_for, lane_number, lane_partition

DEFAULT = Site(name="", connections=7)
BIG = Site(name="big", lanes=4, connections=6, rate=Rate(100, 1, 8))
RULES = SiteRules(
    DEFAULT,
    [
        SiteGroup(Site(name="slow.example"), domains=("slow.example",)),
        SiteGroup(BIG, domains=("big.example", "*.corp.example"), mx=("mx.big.example", "alt.example")),
    ],
)


@pytest.mark.parametrize(
    ("domain", "hosts", "name"),
    [
        ("big.example", None, "big"),
        ("big.example", ["elsewhere.example"], "big"),
        ("mail.corp.example", None, "big"),
        ("corp.example", None, "corp.example"),
        ("customer.example", ["a.mx.big.example", "b.mx.big.example"], "big"),
        ("customer.example", ["MX.big.example.", "alt.example"], "big"),
        ("customer.example", ["a.mx.big.example", "mx.customer.example"], "a.mx.big.example"),
        ("customer.example", ["notmx.big.example"], "notmx.big.example"),
        ("customer.example", ["mx2.host.example", "mx1.host.example"], "mx1.host.example"),
        ("customer.example", None, "customer.example"),
        ("customer.example", [], "customer.example"),
        ("slow.example", None, "slow.example"),
    ],
)
def test_a_domain_finds_its_site(domain: str, hosts: list[str] | None, name: str) -> None:
    assert RULES.site_for(domain, hosts).name == name


def test_domains_with_the_same_mx_set_are_one_site() -> None:
    one = RULES.site_for("one.example", ["mx1.host.example", "mx2.host.example"])
    two = RULES.site_for("two.example", ["mx2.host.example.", "MX1.host.example"])
    assert one == two
    assert one.connections == DEFAULT.connections


def test_a_site_is_found_again_by_its_name() -> None:
    assert RULES.named("big") is BIG
    assert RULES.named("mx1.host.example") == RULES.site_for("one.example", ["mx1.host.example"])


def test_lanes_together_have_what_the_site_has() -> None:
    shares = [BIG.share(lane) for lane in range(BIG.lanes)]
    assert sum(share.connections for share in shares) == BIG.connections
    assert all(share.connections for share in shares)
    assert sum(share.rate.count for share in shares if share.rate) == 100


def test_a_penalty_only_ever_slows_down() -> None:
    share = Penalty(Rate(1, 60), 1).apply(BIG.share(0))
    assert share.rate == Rate(1, 60)
    assert share.connections == 1
    crawling = Site(name="x", rate=Rate(1, 3600), connections=1).share(0)
    assert Penalty(Rate(1, 60), 5).apply(crawling) == crawling


@given(st.text(min_size=1))
def test_a_mail_keeps_its_lane(key: str) -> None:
    lane = lane_for(BIG, key)
    assert lane == lane_for(BIG, key)
    site, number = lane_number(lane)
    assert site == "big"
    assert 0 <= number < BIG.lanes
    assert lane_for(DEFAULT, key) == "#0"


def test_load_spreads_over_lanes() -> None:
    counts = Counter(lane_for(BIG, f"0197a3c0-{number:04x}-7000-8000-00000000{number:04x}") for number in range(4000))
    assert len(counts) == BIG.lanes
    assert min(counts.values()) > 700


@given(st.text("abcdefghij.-", min_size=1), st.integers(4, 200))
def test_lanes_of_a_site_lie_in_partitions_of_their_own(site: str, partitions: int) -> None:
    found = {lane_partition(f"{site}#{number}", partitions) for number in range(4)}
    assert len(found) == 4
    assert all(0 <= partition < partitions for partition in found)


def test_partitions_are_the_same_in_every_process() -> None:
    assert lane_partition("google#3", 64) == 2
    program = "from sluice.domain.site import lane_partition; print(lane_partition('google#3', 64))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) == 2


def test_sites_spread_over_partitions() -> None:
    counts = Counter(lane_partition(f"mx.site{number}.example#0", 16) for number in range(1600))
    assert len(counts) == 16
    assert min(counts.values()) > 60
