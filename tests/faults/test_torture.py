"""The fault laboratory over the real parts: a short run in which everything is hurt, and no promise is broken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sluice.local.folder import DataFolder
from sluice.local.torture.laboratory import Laboratory, prepare
from sluice.local.torture.plan import KINDS, Fault, Plan, draw
from sluice.local.torture.report import Report, breach_lines, report, sentences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
PATIENCE = 120.0


def torture(plan: Plan, data: Path, first_port: int) -> Report:
    """Run a plan; everything that it says is printed, and pytest shows it when the test fails."""
    DataFolder(data).wipe()
    stack = prepare(plan, data, first_port, print)
    made = report(plan, asyncio.run(Laboratory(stack, plan, patience=PATIENCE, say=print, progress=print).run()))
    print(*sentences(made), *breach_lines(made), sep="\n")  # noqa: T201  pytest keeps it for a failure
    return made


def test_a_minute_of_everything_loses_nothing_and_explains_each_copy(tmp_path: Path) -> None:
    """Each kind of fault once, by a seed: nothing lost, each copy among those in doubt, every outcome counted once."""
    plan = draw(
        20261125,
        duration=60.0,
        mails=2400,
        rate=40.0,
        workers={"deliver": 2, "compose": 1, "wheel": 1, "record": 1},
        every=2.6,
        longest_stop=16.0,
    )
    assert {fault.kind for fault in plan.faults} == set(KINDS)
    made = torture(plan, tmp_path / "data", 26_000)
    assert made.good, "\n".join(breach_lines(made))
    assert made.findings.accepted + made.findings.uncertain == 2400
    assert made.findings.in_doubt > 0, "nothing was hurt"


def test_a_worker_that_was_suspended_while_others_took_over_repeats_nothing(tmp_path: Path) -> None:
    """It wakes with mails in hand that are another's by now: a slow network keeps many of them there."""
    faults = (
        Fault(1.5, "latency", "sink", 22.0),
        Fault(4.0, "stop", "deliver-1", 16.0),
    )
    workers = {"deliver": 2, "compose": 1, "wheel": 1, "record": 1}
    plan = Plan(seed=0, mails=1080, rate=60.0, workers=workers, hold_every=3, faults=faults)
    made = torture(plan, tmp_path / "data", 26_600)
    assert made.good, "\n".join(breach_lines(made))
    assert made.findings.copies <= made.findings.in_doubt <= 200
