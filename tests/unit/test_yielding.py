"""How bulk gives way: the decision, and the pace that composing takes from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.compose.pace import LONGEST_S, LOOK_S, SHORTEST_S, URGENT_S, Pace
from sluice.domain.errors import RuleError
from sluice.domain.yielding import Yielding

RULE = Yielding(target=0.004, least=0.2, cut=0.8, gain=0.04)
shares = st.floats(RULE.least, 1.0)
lateness = st.floats(0.0, 5.0)


@given(shares, lateness)
def test_without_urgent_mail_bulk_has_everything_at_once(share: float, late: float) -> None:
    assert RULE.next(share, late, urgent=False) == 1.0


@given(st.floats(0.0, 2.0), lateness, st.booleans())
def test_the_share_stays_within_its_bounds(share: float, late: float, urgent: bool) -> None:
    assert RULE.least <= RULE.next(share, late, urgent=urgent) <= 1.0


@given(shares, lateness, lateness)
def test_who_is_later_never_gives_bulk_more(share: float, one: float, other: float) -> None:
    later, sooner = max(one, other), min(one, other)
    assert RULE.next(share, later, urgent=True) <= RULE.next(share, sooner, urgent=True)


@given(shares, st.floats(0.0, RULE.target))
def test_bulk_has_everything_again_in_two_seconds_of_a_prompt_loop(share: float, late: float) -> None:
    """However small its share was."""
    for _ in range(20):
        share = RULE.next(share, late, urgent=True)
    assert share == 1.0


@given(st.floats(RULE.target, 5.0, exclude_min=True))
def test_bulk_gives_way_within_a_second_of_a_late_loop_and_no_further_than_the_least(late: float) -> None:
    share = 1.0
    for _ in range(10):
        share = RULE.next(share, late, urgent=True)
    assert share == RULE.least


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"least": 0.0}, {"least": 1.1}, {"cut": 1.0}, {"gain": 0.0}])
def test_a_way_to_yield_that_leads_nowhere_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RuleError):
        Yielding(**wrong)


def busy(pace: Pace, seconds: float, *, late: float, now: float, urgent: bool) -> tuple[float, float]:
    """Compose bulk in turns of 2 ms: (the share of the time that went to it, the time then)."""
    began, worked = now, 0.0
    while now - began < seconds:
        if urgent:
            pace.urgent(now)
        worked += 0.002
        now += 0.002
        pause = pace.pause(0.002, urgent_waits=False)
        assert pause == 0.0 or SHORTEST_S <= pause <= LONGEST_S
        now += pause
        pace.resumed(late, now)
    return worked / (now - began), now


def test_without_urgent_mail_composing_never_pauses_however_late_it_is() -> None:
    """A backlog alone has the machine."""
    assert busy(Pace(RULE, 0.0), 5.0, late=0.5, now=0.0, urgent=False)[0] == pytest.approx(1.0)


def test_on_a_late_machine_bulk_gives_way_while_urgent_mail_comes_and_has_all_again_after() -> None:
    """The share of time is what was decided."""
    pace = Pace(RULE, 0.0)
    _, now = busy(pace, 2.0, late=0.02, now=0.0, urgent=True)
    share, now = busy(pace, 2.0, late=0.02, now=now, urgent=True)
    assert share == pytest.approx(RULE.least, rel=0.1)
    _, now = busy(pace, URGENT_S + 2 * LOOK_S, late=0.02, now=now, urgent=False)
    assert busy(pace, 1.0, late=0.02, now=now, urgent=False)[0] == pytest.approx(1.0)


def test_on_a_prompt_machine_bulk_does_not_give_way() -> None:
    """There is room for both."""
    assert busy(Pace(RULE, 0.0), 5.0, late=0.001, now=0.0, urgent=True)[0] == pytest.approx(1.0)


def test_urgent_mail_that_waits_is_composed_before_any_pause() -> None:
    """And what is owed meanwhile is not paid in one long pause."""
    pace = Pace(RULE, 0.0)
    busy(pace, 2.0, late=0.02, now=0.0, urgent=True)
    assert all(pace.pause(0.002, urgent_waits=True) == 0.0 for _ in range(1000))
    assert pace.pause(0.0, urgent_waits=False) <= LONGEST_S
