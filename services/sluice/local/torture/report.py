"""What came of a run, in words and as data."""

from __future__ import annotations

from typing import Any

import msgspec

from sluice.local.torture.laboratory import Run
from sluice.local.torture.plan import Plan
from sluice.local.torture.reconcile import Breach, Findings, Recovery, reconcile

UNSETTLED = Breach(
    "not quiet", "not every mail had ended, or not every outcome was recorded, when patience ran out", 1, []
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run's plan, its findings, and how long it took."""

    plan: Plan
    findings: Findings
    quiet: bool
    own_deaths: dict[str, int]
    starting: float
    hurting: float
    settling: float

    @property
    def good(self) -> bool:
        """Whether every invariant holds."""
        return self.findings.good and self.quiet

    @property
    def breaches(self) -> list[Breach]:
        """What does not hold."""
        return [*self.findings.breaches, *([] if self.quiet else [UNSETTLED])]


def report(plan: Plan, run: Run) -> Report:
    """Reckon a run."""
    return Report(
        plan=plan,
        findings=reconcile(run.evidence),
        quiet=run.quiet,
        own_deaths=run.own_deaths,
        starting=run.starting,
        hurting=run.hurting,
        settling=run.settling,
    )


def as_data(made: Report) -> dict[str, Any]:
    """For programs: everything, with the verdict first."""
    found: dict[str, Any] = msgspec.to_builtins(made)
    return {"good": made.good, **found}


COLUMNS = ("at>", "fault", "target", "lasted>", "in flight>", "silent>", "caught up>", "note")


def recovery_row(recovery: Recovery, began: float) -> tuple[str, ...]:
    """A fault's line in the table; ``began`` is the moment that its plan counts from."""
    injected = recovery.injected
    lasted = injected.until - injected.at
    return (
        f"{injected.at - began:.1f} s",
        injected.fault.kind,
        injected.fault.target,
        f"{lasted:.1f} s" if lasted >= 0.05 else "",
        str(recovery.in_flight or ""),
        _seconds(recovery.silent),
        _seconds(recovery.caught_up),
        injected.note,
    )


def sentences(made: Report) -> list[str]:
    """The sums, as lines for people."""
    found = made.findings
    ends = ", ".join(f"{state} {count:,}" for state, count in sorted(found.endings.items()))
    lost = next((breach.count for breach in found.breaches if breach.name == "lost"), 0)
    unexplained = next((breach.count for breach in found.breaches if breach.name == "unexplained"), 0)
    lines = [
        f"accepted {found.accepted:,} mails, and {found.uncertain:,} without an acknowledgement: {ends}",
        f"lost {lost:,}",
        (
            f"arrived {found.arrived:,}; second copies {found.copies:,}, at most {found.most_copies} of one mail; "
            f"in doubt {found.in_doubt:,}; unexplained {unexplained:,}"
        ),
        (
            f"attempts in doubt because a worker stopped {found.abandoned:,}, in flight then {found.in_flight:,}; "
            f"because the server did not answer {found.unanswered:,}"
        ),
        f"the server took {found.unheard:,} mails that their sender never heard of",
        f"outcomes recorded {found.outcomes:,}",
    ]
    silent = [each.silent for each in found.recoveries if each.silent is not None]
    late = [each.caught_up for each in found.recoveries if each.caught_up is not None]
    if silent and late:
        lines.append(
            f"longest silence at the server {max(silent):.1f} s; longest time until what was accepted before a fault "
            f"had arrived {max(late):.1f} s"
        )
    if made.own_deaths:
        died = ", ".join(f"{name} {count}" for name, count in sorted(made.own_deaths.items()))
        lines.append(f"ended by themselves and were started again: {died}")
    lines.append(
        f"started in {made.starting:.0f} s, hurt for {made.hurting:.0f} s, quiet {made.settling:.0f} s after that"
    )
    return lines


def breach_lines(made: Report) -> list[str]:
    """What is wrong; empty when nothing is."""
    lines: list[str] = []
    for breach in made.breaches:
        lines.append(f"BROKEN  {breach.name} {breach.count:,}: {breach.meaning}")
        lines += [f"        {line}" for line in breach.stories]
    return lines


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
