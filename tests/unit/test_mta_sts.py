"""MTA-STS records and policies, as RFC 8461 writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import Undecodable
from sluice.domain.mta_sts import MOST_AGE, StsPolicy, parse_policy, record_id

POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ; id=1 ; new=thing;"], "1"),
        (["v=spf1 -all", "v=STSv1; id=2;"], "2"),
        ([], None),
        (["v=STSv1"], None),
        (["v=STSv1;"], None),
        (["v=STSv1; id=;"], None),
        (["v=STSv1; id=not-a-token;"], None),
        (["v=STSv1; id=" + "1" * 33], None),
        (["v=STSv2; id=1;"], None),
        ([" v=STSv1; id=1;"], None),
        (["v=STSv1; id=1;", "v=STSv1; id=2;"], None),
    ],
)
def test_the_record_announces_a_policy(texts: list[str], expected: str | None) -> None:
    assert record_id(texts) == expected


def test_a_policy_is_read() -> None:
    expected = StsPolicy("enforce", 604_800, ("mail.example.com", "*.example.net"))
    assert parse_policy(POLICY) == expected
    assert parse_policy(POLICY.replace("\r\n", "\n").rstrip()) == expected
    assert parse_policy("max_age:604800\nmode:enforce\nfuture: x\nMX: no\n\n" + POLICY) == expected


def test_of_a_field_given_twice_the_first_counts() -> None:
    assert parse_policy("mode: testing\n" + POLICY).mode == "testing"


def test_a_policy_that_ends_all_others_names_no_hosts() -> None:
    assert parse_policy("version: STSv1\nmode: none\nmax_age: 86400") == StsPolicy("none", 86_400)


def test_nobody_is_bound_for_more_than_a_year() -> None:
    assert parse_policy(POLICY.replace("604800", "9999999999")).max_age == MOST_AGE


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("STSv1", "STSv2", "version"),
        ("version: STSv1\r\n", "", "version"),
        ("enforce", "Enforce", "mode"),
        ("mode: enforce\r\n", "", "mode"),
        ("604800", "soon", "max_age"),
        ("604800", "-1", "max_age"),
        ("604800", "12345678901", "max_age"),
        ("604800", "٣", "max_age"),
        ("max_age: 604800\r\n", "", "max_age"),
        ("mx: mail.example.com\r\nmx: *.example.net\r\n", "", "mx"),
        ("*.example.net", "*", "mx"),
        ("*.example.net", "mail.*.example.net", "mx"),
        ("*.example.net", "user@example.net", "mx"),
        ("*.example.net", "", "mx"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_field_at_fault(old: str, new: str, field: str) -> None:
    with pytest.raises(Undecodable) as caught:
        parse_policy(POLICY.replace(old, new))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mail.example.com", True),
        ("MAIL.Example.Com.", True),
        ("mx1.example.net", True),
        ("example.net", False),
        ("a.b.example.net", False),
        ("other.example.com", False),
        ("mail.example.com.evil.example", False),
        ("evilexample.net", False),
        ("net", False),
        ("", False),
    ],
)
def test_a_policy_names_hosts(host: str, named: bool) -> None:
    assert parse_policy(POLICY).names(host) is named


@given(st.text(max_size=300))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    try:
        policy = parse_policy(text)
    except Undecodable:
        return
    assert policy.max_age >= 0


@given(st.lists(st.sampled_from(POLICY.splitlines()) | st.text(max_size=20), max_size=8).map("\n".join))
def test_lines_in_any_order_are_a_policy_or_refused(text: str) -> None:
    try:
        policy = parse_policy(text)
    except Undecodable:
        return
    assert policy == StsPolicy("enforce", 604_800, policy.mx)
