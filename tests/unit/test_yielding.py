"""How bulk gives way: the decision, and the pace that composing takes from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.memory.load import MemoryLoad
from sluice.compose.pace import LONGEST_S, LOOK_S, SHORTEST_S, URGENT_S, Pace
from sluice.domain.errors import RuleError
from sluice.domain.yielding import Yielding

RULE = Yielding(most=0.8, least=0.1, cut=0.3, gain=0.4)
shares = st.floats(RULE.least, 1.0)
loads = st.floats(0.0, 1.0)


@given(shares, loads)
def test_without_urgent_mail_bulk_has_everything_at_once(share: float, busy: float) -> None:
    assert RULE.next(share, busy, urgent=False) == 1.0


@given(st.floats(0.0, 2.0), loads, st.booleans())
def test_the_share_stays_within_its_bounds(share: float, busy: float, urgent: bool) -> None:
    assert RULE.least <= RULE.next(share, busy, urgent=urgent) <= 1.0


@given(shares, loads, loads)
def test_a_busier_machine_never_gives_bulk_more(share: float, one: float, other: float) -> None:
    busier, freer = max(one, other), min(one, other)
    assert RULE.next(share, busier, urgent=True) <= RULE.next(share, freer, urgent=True)


@given(shares)
def test_a_machine_as_busy_as_it_may_be_leaves_the_share_as_it_is(share: float) -> None:
    assert RULE.next(share, RULE.most, urgent=True) == pytest.approx(share)


def test_bulk_has_everything_again_in_two_seconds_of_a_half_idle_machine() -> None:
    """However small its share was."""
    share = RULE.least
    for _ in range(round(2.0 / LOOK_S)):
        share = RULE.next(share, RULE.most / 2, urgent=True)
    assert share == 1.0


def test_on_a_full_machine_bulk_gives_way_within_a_second_and_no_further_than_the_least() -> None:
    share = 1.0
    for _ in range(round(1.0 / LOOK_S)):
        share = RULE.next(share, 1.0, urgent=True)
    assert share == RULE.least


@given(loads)
def test_where_nothing_is_to_stay_free_bulk_never_gives_way(busy: float) -> None:
    assert Yielding(most=1.0).next(1.0, busy, urgent=True) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"most": 0.0}, {"most": 1.1}, {"least": 0.0}, {"least": 1.1}, {"cut": 1.0}, {"gain": 0.0}]
)
def test_a_way_to_yield_that_leads_nowhere_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RuleError):
        Yielding(**wrong)


class Composing:
    """Composes bulk in turns of 2 ms whenever it may."""

    def __init__(self, busy: float) -> None:
        self.load = MemoryLoad(busy)
        self.now = 0.0
        self.pace = Pace(RULE, self.load, self.now)

    def share(self, seconds: float, *, urgent: bool) -> float:
        """Of the next ``seconds``, what went to bulk."""
        began, worked = self.now, 0.0
        while self.now - began < seconds:
            if urgent:
                self.pace.urgent(self.now)
            pause = self.pace.pause(self.now)
            if not pause:
                self.now += 0.002
                worked += 0.002
                self.pace.worked(0.002, self.now)
            else:
                assert SHORTEST_S <= pause <= LONGEST_S
                self.now += pause + 1e-6
            self.pace.look(self.now)
        return worked / (self.now - began)


def test_without_urgent_mail_composing_never_pauses_however_busy_the_machine_is() -> None:
    """A backlog alone has the machine."""
    assert Composing(busy=1.0).share(5.0, urgent=False) == pytest.approx(1.0)


def test_on_a_full_machine_bulk_has_the_least_while_urgent_mail_comes_and_all_again_after() -> None:
    """The share of time is what was decided, a mail's length apart."""
    composing = Composing(busy=1.0)
    composing.share(2.0, urgent=True)
    assert composing.share(2.0, urgent=True) == pytest.approx(RULE.least, rel=0.1)
    composing.share(URGENT_S + 2 * LOOK_S, urgent=False)
    assert composing.share(1.0, urgent=False) == pytest.approx(1.0)


def test_on_a_machine_with_room_bulk_does_not_give_way() -> None:
    """There is enough for both."""
    assert Composing(busy=RULE.most - 0.1).share(5.0, urgent=True) == pytest.approx(1.0)


def test_urgent_mail_that_comes_again_finds_what_was_right_when_it_came_last() -> None:
    """Everything would be wrong for the second that it takes to find the share anew."""
    composing = Composing(busy=1.0)
    composing.share(3.0, urgent=True)
    composing.share(60.0, urgent=False)
    composing.pace.urgent(composing.now)
    assert composing.share(LOOK_S / 2, urgent=True) < 3 * RULE.least


def test_nobody_waits_for_long_whatever_a_mail_took() -> None:
    composing = Composing(busy=1.0)
    composing.share(3.0, urgent=True)
    composing.pace.worked(10.0, composing.now)
    assert 0 < composing.pace.pause(composing.now) <= LONGEST_S


def test_a_clock_that_is_set_back_holds_nobody_up() -> None:
    """An hour, as when a machine's clock is put right."""
    composing = Composing(busy=1.0)
    composing.share(3.0, urgent=True)
    composing.pace.worked(1.0, composing.now)
    composing.now -= 3600.0
    assert composing.pace.pause(composing.now) == 0.0
    assert composing.share(1.0, urgent=False) == pytest.approx(1.0, abs=0.3)
