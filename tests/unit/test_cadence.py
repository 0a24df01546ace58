"""How far apart things are done for records that keep coming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.cadence import WINDOW_S, Arrivals, Cadence

CADENCE = Cadence(together=8, longest=0.04)


@given(st.floats(0.0, 2 / 0.04, exclude_max=True))
def test_records_that_come_rarely_are_served_at_once(rate: float) -> None:
    assert CADENCE.gap(rate) == 0.0


@given(st.floats(2 / 0.04, 1e6))
def test_records_that_come_fast_are_served_together_and_none_waits_for_long(rate: float) -> None:
    gap = CADENCE.gap(rate)
    assert 0.0 < gap <= CADENCE.longest
    assert gap * rate <= CADENCE.together + 1e-6


def test_the_gap_follows_the_rate_and_a_quiet_ends_it() -> None:
    arrivals = Arrivals(CADENCE, 0.0)
    now = 0.0
    assert arrivals.gap(now) == 0.0
    for _ in range(400):
        now += 0.001
        arrivals.came(1, now)
    assert arrivals.gap(now) == pytest.approx(8 / 1000, rel=0.1)
    assert arrivals.gap(now + 60.0) == 0.0


def test_a_single_record_after_a_quiet_does_not_open_a_gap() -> None:
    """The window is as long as the quiet was, then."""
    arrivals = Arrivals(CADENCE, 0.0)
    for second in range(1, 20):
        arrivals.came(1, float(second))
        assert arrivals.gap(second + WINDOW_S) == 0.0
