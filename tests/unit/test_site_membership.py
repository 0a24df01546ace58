"""Why a domain belongs to its site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.site import Site, SiteGroup, SiteRules

BIG = Site(name="big", lanes=4)
RULES = SiteRules(
    Site(name=""),
    [
        SiteGroup(BIG, domains=("big.example", "*.corp.example"), mx=("mx.big.example", "alt.example")),
        SiteGroup(Site(name="mx1.host.example", connections=3)),
    ],
)
LABELS = st.sampled_from(["big", "corp", "mx", "alt", "host", "mx1", "mail"])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))


@pytest.mark.parametrize(
    ("domain", "hosts", "site", "by", "match"),
    [
        ("big.example", ["elsewhere.example"], "big", "domain", "big.example"),
        ("mail.corp.example", None, "big", "domain", "*.corp.example"),
        ("customer.example", ["a.mx.big.example", "MX.big.example."], "big", "mx", "mx.big.example"),
        ("customer.example", ["mx.big.example", "x.alt.example"], "big", "mx", "mx.big.example, alt.example"),
        ("customer.example", ["mx2.other.example", "MX1.other.example."], "mx1.other.example", "rollup", None),
        ("customer.example", ["mx1.host.example"], "mx1.host.example", "rollup", None),
        ("customer.example", None, "customer.example", "itself", None),
        ("customer.example", [], "customer.example", "itself", None),
    ],
)
def test_the_reason_names_what_decided(
    domain: str, hosts: list[str] | None, site: str, by: str, match: str | None
) -> None:
    found = RULES.explain(domain, hosts)
    assert (found.site.name, found.by, found.match) == (site, by, match or site)


def test_limits_that_the_rules_give_a_host_hold_for_the_domains_it_serves() -> None:
    assert RULES.explain("customer.example", ["mx1.host.example"]).site.connections == 3


@given(NAMES, st.none() | st.lists(NAMES, max_size=3))
def test_what_is_explained_is_what_is_done(domain: str, hosts: list[str] | None) -> None:
    assert RULES.explain(domain, hosts).site == RULES.site_for(domain, hosts)
