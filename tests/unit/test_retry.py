"""When to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.retry import Pace, RetryPolicy, RetryRules, next_attempt

NEVER = float("inf")
STEADY = RetryPolicy((10.0, 60.0, 300.0), jitter=0.0, hint_least=5.0, hint_most=3600.0)


def wait(policy: RetryPolicy, attempt: int, *, hint: float | None = None, spread: float = 0.5) -> float:
    due = next_attempt(policy, attempt=attempt, now=1000.0, expires_at=NEVER, hint=hint, spread=spread)
    assert due is not None
    return due - 1000.0


def test_delays_follow_the_schedule_and_the_last_repeats() -> None:
    assert [wait(STEADY, attempt) for attempt in (1, 2, 3, 4, 50)] == [10, 60, 300, 300, 300]


def test_a_wait_beyond_the_expiry_is_none() -> None:
    assert next_attempt(STEADY, attempt=1, now=0.0, expires_at=10.1, hint=None, spread=0.0) == 10.0
    assert next_attempt(STEADY, attempt=1, now=0.0, expires_at=10.0, hint=None, spread=0.0) is None
    assert next_attempt(STEADY, attempt=1, now=0.0, expires_at=100.0, hint=300.0, spread=0.0) is None


def test_a_server_that_says_when_is_obeyed_within_bounds() -> None:
    assert wait(STEADY, 1, hint=300) == 300
    assert wait(STEADY, 3, hint=60) == 60
    assert wait(STEADY, 1, hint=0) == 5
    assert wait(STEADY, 1, hint=1e9) == 3600


@given(st.integers(1, 10), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_in_proportion_and_never_shortens_a_hint(attempt: int, spread: float) -> None:
    policy = RetryPolicy((10.0, 60.0, 300.0), jitter=0.2)
    plain = wait(STEADY, attempt)
    assert 0.8 * plain - 1e-6 <= wait(policy, attempt, spread=spread) <= 1.2 * plain + 1e-6
    assert 100 - 1e-6 <= wait(policy, attempt, hint=100, spread=spread) <= 120 + 1e-6


def test_a_pace_replaces_or_lengthens_the_schedule() -> None:
    rules = RetryRules(
        {"high": STEADY, "normal": STEADY, "bulk": STEADY},
        {"high": 1.0, "normal": 1.0, "bulk": 1.0},
        {"quota": Pace((3600.0,)), "throttled": Pace((), 100.0)},
    )
    assert rules.policy_for("high", "quota").delays == (3600.0,)
    assert rules.policy_for("high", "throttled").delays == (100.0, 100.0, 300.0)
    assert rules.policy_for("high", "nothing known") is STEADY
    assert rules.policy_for("high") is STEADY
