"""Rates, their enforcement, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import RuleError
from sluice.domain.shaping import IDLE, PRIORITY_WEIGHTS, Gcra, Rate, WeightedChooser, parse_duration

rates = st.builds(
    Rate, st.integers(1, 5000).map(float), st.sampled_from([1.0, 60.0, 3600.0]), st.integers(min_value=1, max_value=50)
)
gaps = st.lists(st.floats(0, 100), min_size=1, max_size=120)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1, 10)),
        ("10/s", Rate(10, 1, 1)),
        ("5000/h,burst=50", Rate(5000, 3600, 50)),
        ("60/min", Rate(60, 60, 1)),
        (" 1.5 / Second , burst=3", Rate(1.5, 1, 3)),
        ("2000/d", Rate(2000, 86400, 1)),
    ],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "100", "100/x", "0/s", "-1/s", "5/s,burst=0", "5/s,burst=x", "1e9/s", "5//s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        Rate.parse(text)


@given(rates)
def test_a_rate_reads_what_it_writes(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1w", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        parse_duration(text)


def slots(rate: Rate, arrivals: list[float]) -> list[float]:
    limiter, state, found = Gcra.of(rate), IDLE, []
    now = 1_700_000_000.0
    for gap in arrivals:
        now += gap
        state, slot = limiter.reserve(state, now)
        assert slot >= now
        found.append(slot)
    return found


@given(rates, gaps)
def test_no_window_holds_more_than_the_rate_and_the_burst(rate: Rate, arrivals: list[float]) -> None:
    found = slots(rate, arrivals)
    for first in range(len(found)):
        for last in range(first, len(found)):
            window = found[last] - found[first]
            assert last - first + 1 <= window / rate.interval + rate.burst + 0.01


@given(rates, gaps)
def test_slots_come_in_the_order_they_were_asked_for(rate: Rate, arrivals: list[float]) -> None:
    found = slots(rate, arrivals)
    assert found == sorted(found)


@given(rates, gaps)
def test_allow_grants_no_more_than_reserve_would_have_given_by_then(rate: Rate, arrivals: list[float]) -> None:
    limiter, state, now, granted = Gcra.of(rate), IDLE, 0.0, []
    for gap in arrivals:
        now += gap
        was = state
        state, allowed = limiter.allow(state, now)
        if allowed:
            granted.append(now)
        else:
            assert state == was
            assert limiter.ready_at(state) > now
    for first in range(len(granted)):
        assert len(granted) - first <= (granted[-1] - granted[first]) / rate.interval + rate.burst + 0.01


def test_idleness_is_worth_a_burst_and_not_more() -> None:
    rate = Rate(10, 1, 5)
    limiter = Gcra.of(rate)
    state, _ = limiter.reserve(IDLE, 0.0)
    now = 86_400.0
    at_once = 0
    for _ in range(20):
        state, slot = limiter.reserve(state, now)
        at_once += slot - now < 1e-6
    assert at_once == 5


def test_a_backlog_leaves_at_exactly_the_rate() -> None:
    found = slots(Rate(4, 1, 1), [0.0] * 9)
    assert found[-1] - found[0] == pytest.approx(2.0)


@given(rates, st.integers(1, 8))
def test_shares_add_up_to_the_rate(rate: Rate, parts: int) -> None:
    share = rate.shared(parts)
    assert share.count * parts == pytest.approx(rate.count)
    assert share.burst * parts <= max(rate.burst, parts)


def test_waiting_priorities_are_served_by_weight() -> None:
    chooser = WeightedChooser(PRIORITY_WEIGHTS)
    turns, served = chooser.start(), [0, 0, 0]
    for _ in range(210):
        turns, index = chooser.choose(turns, (True, True, True))
        assert index is not None
        served[index] += 1
    assert served == [160, 40, 10]


def test_the_first_turn_is_the_highest_priority() -> None:
    chooser = WeightedChooser(PRIORITY_WEIGHTS)
    assert chooser.choose(chooser.start(), (True, True, True))[1] == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=60, max_size=400))
def test_who_waits_is_served_whatever_the_others_do(others: list[tuple[bool, bool]]) -> None:
    """One that always waits gets a turn in at most sum(weights) / own + one turn per class."""
    for patient, weight in enumerate(PRIORITY_WEIGHTS):
        chooser = WeightedChooser(PRIORITY_WEIGHTS)
        turns, since = chooser.start(), 0
        for first, second in others:
            waiting = [first, second]
            waiting.insert(patient, True)
            turns, index = chooser.choose(turns, waiting)
            assert index is not None
            assert waiting[index]
            since = 0 if index == patient else since + 1
            assert since <= sum(PRIORITY_WEIGHTS) / weight + 3


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=200))
def test_only_who_waits_is_served(history: list[tuple[bool, bool, bool]]) -> None:
    chooser = WeightedChooser(PRIORITY_WEIGHTS)
    turns = chooser.start()
    for waiting in history:
        turns, index = chooser.choose(turns, waiting)
        assert (index is None) == (not any(waiting))
        assert index is None or waiting[index]


def test_absence_saves_no_turns_up() -> None:
    chooser = WeightedChooser((1, 1))
    turns = chooser.start()
    for _ in range(100):
        turns, _ = chooser.choose(turns, (True, False))
    served = []
    for _ in range(10):
        turns, index = chooser.choose(turns, (True, True))
        served.append(index)
    assert 4 <= served.count(0) <= 6


@pytest.mark.parametrize("weights", [(), (0, 1), (-1,)])
def test_weights_below_one_are_refused(weights: tuple[int, ...]) -> None:
    with pytest.raises(RuleError):
        WeightedChooser(weights)
