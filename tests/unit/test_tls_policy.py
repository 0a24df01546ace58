"""Which protection wins: the operator's rule, MTA-STS or DANE."""

from __future__ import annotations

import pytest

from sluice.domain.dane import DaneFailed, DaneHost, Tlsa
from sluice.domain.mta_sts import StsMode, StsPolicy
from sluice.domain.smtp import Broken, SettableTls
from sluice.domain.tls_policy import Guard, Protection, guard, path_key

MX = "mx.example"
OTHER = "other.example"
OF_SERVER = DaneHost(MX, (Tlsa(3, 1, 1, b"x" * 32),), (MX, "a.example"))
OF_AUTHORITY = DaneHost(MX, (Tlsa(2, 1, 1, b"x" * 32),), (MX, "a.example"))
UNUSABLE = DaneHost(MX, (), (MX, "a.example"))
RULES: list[SettableTls] = ["opportunistic", "required", "verified"]


def sts(mode: StsMode, *hosts: str) -> StsPolicy:
    return StsPolicy(mode, 86_400, hosts or (MX,))


@pytest.mark.parametrize("rule", ["none", *RULES])
def test_without_policies_the_rule_stands(rule: SettableTls) -> None:
    assert guard(rule, MX, Protection("a.example")) == Guard(rule)
    assert guard(rule, MX, Protection("a.example", sts("none"))) == Guard(rule)
    assert guard(rule, MX, Protection("a.example", dane={MX: None})) == Guard(rule)


@pytest.mark.parametrize("rule", RULES)
def test_mta_sts_asks_for_a_named_and_verified_host(rule: SettableTls) -> None:
    protection = Protection("a.example", sts("enforce"))
    assert guard(rule, MX, protection) == Guard("mta_sts")
    refused = guard(rule, OTHER, protection)
    assert isinstance(refused, Broken)
    assert (refused.phase, refused.reason) == ("resolve", "mta_sts")


def test_a_policy_in_testing_refuses_nothing_and_reports() -> None:
    protection = Protection("a.example", sts("testing"))
    assert guard("opportunistic", MX, protection) == Guard("opportunistic", testing=True)
    assert guard("required", MX, protection) == Guard("required", testing=True)
    assert guard("verified", MX, protection) == Guard("verified")
    other = guard("opportunistic", OTHER, protection)
    assert isinstance(other, Guard)
    assert other.tls == "opportunistic"
    assert other.failure


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["enforce", "testing", "none"])
def test_dane_goes_before_mta_sts(rule: SettableTls, mode: StsMode) -> None:
    protection = Protection("a.example", sts(mode, "elsewhere.example"), {MX: OF_SERVER})
    assert guard(rule, MX, protection) == Guard("dane", OF_SERVER)


def test_mta_sts_never_makes_up_for_a_tlsa_lookup_that_failed() -> None:
    protection = Protection("a.example", sts("enforce"), {MX: DaneFailed("servfail")})
    assert guard("opportunistic", MX, protection) == Broken("resolve", "dns", f"TLSA of {MX}: servfail")


def test_a_host_that_dnssec_does_not_vouch_for_is_left_out() -> None:
    refused = guard("opportunistic", OTHER, Protection("a.example", dane={MX: OF_SERVER}))
    assert isinstance(refused, Broken)
    assert (refused.phase, refused.reason) == ("resolve", "dane")


def test_a_host_without_tlsa_among_those_with_it_is_left_to_mta_sts() -> None:
    protection = Protection("a.example", sts("enforce", MX, OTHER), {MX: OF_SERVER, OTHER: None})
    assert guard("opportunistic", OTHER, protection) == Guard("mta_sts")


def test_records_that_none_can_use_still_ask_for_tls() -> None:
    protection = Protection("a.example", dane={MX: UNUSABLE})
    assert [guard(rule, MX, protection) for rule in RULES] == [Guard("required"), Guard("required"), Guard("verified")]
    both = Protection("a.example", sts("enforce"), {MX: UNUSABLE})
    assert guard("opportunistic", MX, both) == Guard("mta_sts")


def test_the_operator_can_turn_tls_off_for_a_site() -> None:
    protection = Protection("a.example", sts("enforce", OTHER), {MX: OF_SERVER})
    assert guard("none", MX, protection) == Guard("none")


def test_domains_share_connections_when_their_demands_are_the_same() -> None:
    hosts = [MX, OTHER]

    def key(protection: Protection) -> str:
        return path_key(hosts, protection)

    plain = key(Protection("a.example"))
    assert plain == key(Protection("b.example")) == key(Protection("c.example", dane={MX: None, OTHER: None}))
    enforced = key(Protection("a.example", sts("enforce", MX)))
    assert enforced == key(Protection("b.example", sts("enforce", MX, "another.example")))
    assert key(Protection("a.example", dane={MX: OF_SERVER})) == key(Protection("b.example", dane={MX: OF_SERVER}))
    different = {
        plain,
        enforced,
        key(Protection("a.example", sts("enforce", MX, OTHER))),
        key(Protection("a.example", sts("testing", MX))),
        key(Protection("a.example", dane={MX: OF_SERVER})),
        key(Protection("a.example", dane={MX: UNUSABLE, OTHER: None})),
        key(Protection("a.example", dane={MX: OF_AUTHORITY})),
        key(Protection("b.example", dane={MX: OF_AUTHORITY})),
    }
    assert len(different) == 8
