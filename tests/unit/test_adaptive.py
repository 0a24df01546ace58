"""A lane gives way to a site that asks for less, and comes back by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.adaptive import Give, Pressure, base_rate, eased
from sluice.domain.shaping import Rate

GIVE = Give()


def test_one_burst_of_complaints_is_one_cut() -> None:
    """Twenty connections are told the same thing at once."""
    pressure = Pressure()
    for number in range(20):
        pressure = pressure.asked_for_less(100.0 + number / 10, GIVE)
    assert pressure.share == 0.5


def test_a_site_that_keeps_asking_is_cut_down_to_the_floor_and_no_further() -> None:
    """Something always goes through, or recovery would never be noticed."""
    pressure = Pressure()
    for number in range(50):
        pressure = pressure.asked_for_less(100.0 + 10 * number, GIVE)
    assert pressure.share_at(100.0 + 10 * 49, GIVE) == GIVE.floor


def test_the_rate_recovers_additively() -> None:
    """Twice the time, twice the gain; the whole in the end."""
    pressure = Pressure().asked_for_less(0.0, GIVE)
    gain = pressure.share_at(90.0, GIVE) - 0.5
    assert abs((pressure.share_at(180.0, GIVE) - 0.5) - 2 * gain) < 1e-9
    assert pressure.share_at(GIVE.recover, GIVE) == 1.0


@given(st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60))
def test_the_share_stays_within_its_bounds_and_only_falls_when_asked(steps: list[tuple[float, bool]]) -> None:
    """Whatever happens when."""
    pressure, now, before = Pressure(), 0.0, 1.0
    for wait, complaint in steps:
        now += wait
        share = pressure.share_at(now, GIVE)
        assert GIVE.floor <= share <= 1.0
        assert share >= before - 1e-9
        if complaint:
            pressure = pressure.asked_for_less(now, GIVE)
            share = pressure.share_at(now, GIVE)
        before = share


def test_a_site_without_a_rate_is_cut_from_what_its_connections_carry() -> None:
    """Ten connections at 50 ms a mail carry 200 mails a second."""
    assert eased(base_rate(None, 10, 0.05), 0.5).count == 100.0
    assert eased(Rate(100, 1.0, 10), 0.5) == Rate(50.0, 1.0, 1)
    assert eased(Rate(100, 1.0, 10), 1.0) == Rate(100, 1.0, 10)
