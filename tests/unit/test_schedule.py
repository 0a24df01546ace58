"""Which tiers a wait passes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.schedule import SMALLEST, TIERS, Due, Enter, entry_tier, next_step, rests_until


def test_twenty_five_minutes_are_fifteen_and_five_and_five() -> None:
    """The design's own example."""
    now, due, path = 0.0, 1500.0, []
    while isinstance(step := next_step(due, now), Enter):
        path.append(step.tier)
        now = rests_until(step.tier, now, due)
    assert path == ["15m", "5m", "5m"]
    assert now == due


def test_what_is_overdue_returns_at_once() -> None:
    """A wheel that stood still does not wait again."""
    assert next_step(100.0, 500.0) == Due(0.0)


def test_a_short_wait_enters_the_smallest_tier() -> None:
    """Whoever puts a mail off need not hold it."""
    assert entry_tier(103.0, 100.0) == SMALLEST[0]
    assert rests_until(SMALLEST[0], 100.0, 103.0) == 103.0


@given(st.floats(0, 30 * 86400), st.floats(1e9, 2e9))
def test_every_wait_ends_on_time_in_few_hops(wait: float, start: float) -> None:
    """Never early, less than a second late; each tier at most as often as it fits into the next longer one."""
    due, now, hops = start + wait, start, 0
    tier = entry_tier(due, now)
    while True:
        now = rests_until(tier, now, due)
        step = next_step(due, now)
        if isinstance(step, Due):
            now += step.seconds
            break
        tier, hops = step.tier, hops + 1
    assert due - 1e-3 <= now <= due + 1.0
    most = sum(int(longer / shorter) for (_, longer), (_, shorter) in pairwise(TIERS))
    assert hops <= wait // 86400 + most


@given(st.sampled_from(TIERS), st.floats(0, 1e6), st.floats(0, 1e6))
def test_within_a_tier_the_later_record_never_leaves_much_earlier(
    tier: tuple[str, float], first: float, gap: float
) -> None:
    """Due times are in offset order but for the smallest tier's wait, which is what is held in memory."""
    name, seconds = tier
    early, late = first, first + gap
    assert rests_until(name, late, late + seconds) >= rests_until(name, early, early + seconds) - SMALLEST[1]
