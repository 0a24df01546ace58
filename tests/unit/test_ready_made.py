"""Ready-made queries as files: what their headers promise, and what callers are told when they ask wrongly."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from sluice.adapters.clickhouse.ready_made import QueryProblem, find_query, read_query, ready_made
from sluice.commands.plot import WIDTH, bar
from sluice.domain.errors import SluiceError

NOW = datetime(2026, 5, 1, 12, 30, 15, 999, tzinfo=UTC)
ASKED = (
    "backlogs", "bounce_categories", "campaigns", "deferral_replies", "deliverability", "latency", "suppressions",
    "tenants", "unknown_replies", "variants",
)  # fmt: skip


def test_every_query_that_is_promised_is_there() -> None:
    assert tuple(ready_made()) == ASKED


@pytest.mark.parametrize("name", ASKED)
def test_a_query_uses_the_parameters_that_its_header_names_and_no_others(name: str) -> None:
    query = find_query(name)
    used = set(re.findall(r"\{(\w+):(\w+)", query.sql))
    assert used == {(one.name, one.type) for one in query.parameters}
    read = set(re.findall(r"\{database\}\.(\w+)", query.sql))
    assert read == set(query.reads)


@pytest.mark.parametrize("name", ASKED)
def test_a_plot_shows_columns_that_there_are(name: str) -> None:
    query = find_query(name)
    labels, value = query.plot
    assert {*labels, value} <= {column.name for column in query.columns}


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(QueryProblem, match="did you mean deliverability"):
        find_query("deliverabilty")
    with pytest.raises(QueryProblem, match="see them all with: sluice query"):
        find_query("xyz")


def test_a_parameter_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(QueryProblem, match=r"no parameter 'tennant': did you mean tenant\?; it has tenant, site"):
        find_query("latency").values({"tennant": "acme"}, NOW)


def test_a_parameter_without_default_has_to_be_given() -> None:
    with pytest.raises(QueryProblem, match="variants needs --param campaign="):
        find_query("variants").values({}, NOW)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("minutes", "ten", "a whole number"),
        ("minutes", "-1", "a whole number"),
        ("since", "yesterday", "a moment such as"),
        ("since", "9" * 20 + "w", "a moment such as"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_what_is_wanted(name: str, text: str, wanted: str) -> None:
    with pytest.raises(QueryProblem, match=f"^{name}: .* is not {wanted}"):
        find_query("backlogs").values({name: text}, NOW)


def test_moments_are_utc_and_ago() -> None:
    query = find_query("latency")
    at = NOW.replace(microsecond=0)
    assert query.values({}, NOW)["since"] == at - timedelta(hours=24)
    assert query.values({}, NOW)["until"] == at
    assert query.values({"since": "90m"}, NOW)["since"] == at - timedelta(minutes=90)
    assert query.values({"since": "2026-04-30T02:00:00+02:00"}, NOW)["since"] == datetime(2026, 4, 30, tzinfo=UTC)
    assert query.values({"since": "2026-04-30"}, NOW)["since"] == datetime(2026, 4, 30, tzinfo=UTC)


def test_a_file_that_cannot_be_read_says_which_line() -> None:
    with pytest.raises(SluiceError, match="the first line is to be '-- x: what it answers'"):
        read_query("x.sql", "-- y: something\nSELECT 1")
    with pytest.raises(SluiceError, match="cannot read '@param what'"):
        read_query("x.sql", "-- x: something\n-- @param what\nSELECT 1")


def test_bars_are_as_long_as_their_numbers() -> None:
    assert bar(100, 100) == "█" * WIDTH
    assert bar(50, 100) == "█" * (WIDTH // 2)
    assert bar(0, 100) == bar(1, 0) == ""
    assert bar(0.0001, 100) == "▏", "what is there is seen"
    assert bar(100 / WIDTH / 2, 100) == "▌"
