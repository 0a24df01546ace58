"""A plan is drawn from a seed, can be kept in a file, and does what it says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.local.torture.plan import (
    KINDS,
    MEANINGS,
    MEMBERSHIP,
    Fault,
    Kind,
    Plan,
    PlanRefused,
    check,
    draw,
    read_plan,
    write_plan,
)

WORKERS = {"deliver": 2, "compose": 2, "record": 1, "wheel": 1}


def drawn(seed: int = 1, duration: float = 120.0, kinds: tuple[Kind, ...] = KINDS) -> Plan:
    return draw(seed, duration=duration, mails=1000, rate=50.0, workers=WORKERS, kinds=kinds)


def test_the_same_seed_draws_the_same_plan() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7).faults != drawn(8).faults


@given(st.integers(0, 10_000), st.floats(20, 400))
def test_whatever_is_drawn_can_be_done(seed: int, duration: float) -> None:
    plan = drawn(seed, duration)
    check(plan)
    assert plan.faults == tuple(sorted(plan.faults, key=lambda fault: (fault.at, fault.target)))
    assert all(fault.ends <= duration + 0.2 for fault in plan.faults)


@given(st.integers(0, 10_000))
def test_nothing_is_hurt_twice_at_once(seed: int) -> None:
    """A process that is suspended is not killed meanwhile: what it did would not be known."""
    by_target: dict[str, list[Fault]] = {}
    for fault in drawn(seed, 300.0).faults:
        by_target.setdefault(
            fault.target if fault.kind not in ("latency", "slice", "reset", "hole") else "", []
        ).append(fault)
    by_target.pop("", None)
    for faults in by_target.values():
        for before, after in itertools.pairwise(faults):
            assert before.ends <= after.at


@given(st.integers(0, 10_000))
def test_partitions_move_in_the_first_seconds_of_their_life(seed: int) -> None:
    """Where nothing is committed yet, a rebalance meets other code than later."""
    first = drawn(seed).faults[0]
    assert first.kind in MEMBERSHIP
    assert first.at <= 2.6
    assert first.target.startswith("deliver")


def test_every_kind_comes_in_a_long_run_and_has_a_meaning() -> None:
    assert {fault.kind for fault in drawn(3, 300.0).faults} == set(KINDS)
    assert MEANINGS.keys() == set(KINDS)


def test_only_what_is_asked_for_is_drawn() -> None:
    plan = drawn(1, 120.0, ("broker", "hang"))
    assert {fault.kind for fault in plan.faults} == {"broker", "hang"}


def test_a_plan_survives_its_file() -> None:
    plan = drawn()
    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(1.0, "kill", "deliver-9"), "deliver-9"),
        (Fault(1.0, "broker", "clickhouse"), "broker at 1 s has no target clickhouse"),
        (Fault(-1.0, "kill", "deliver-1"), "0 or more"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused(fault: Fault, told: str) -> None:
    plan = Plan(seed=1, mails=1, rate=1.0, workers=WORKERS, faults=(fault,))
    with pytest.raises(PlanRefused, match=told):
        read_plan(write_plan(plan))


def test_a_file_that_is_no_plan_is_refused() -> None:
    with pytest.raises(PlanRefused, match="not a plan"):
        read_plan(b'{"seed": "one"}')


@pytest.mark.parametrize("path", sorted(Path(__file__).with_name("plans").iterdir()), ids=lambda path: path.stem)
def test_the_plans_that_are_kept_can_be_followed(path: Path) -> None:
    assert read_plan(path.read_bytes()).faults
