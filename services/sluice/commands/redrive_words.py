"""Who says what of a plan, from the command line."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Annotated

import typer

from sluice.commands.failures import WrongUsage
from sluice.domain.redrive import Action, Options, Plan, Word
from sluice.ports.redrive import Plans
from sluice.runtime import console as parts

As = Annotated[str | None, typer.Option("--as", help="Who you are, for the audit; your user name when not given.")]
PlanId = Annotated[str, typer.Argument(help="As sluice redrive plan printed it.", metavar="PLAN")]


def word(
    action: Action, plan_id: str, as_: str | None, *, run: str = "", options: Options | None = None, note: str = ""
) -> Word:
    """A word in the name of whoever gives the command."""
    by = (as_ or parts.operator().rpartition("@")[0]).strip()
    if not by or len(by) > 128 or not by.isprintable():
        raise WrongUsage("--as: a name of 1 to 128 printable characters")
    return Word(
        plan_id=plan_id,
        action=action,
        by=by,
        host=socket.gethostname(),
        at=datetime.now(UTC),
        run=run,
        options=options or Options(),
        note=note,
    )


def known_plan(plans: Plans, plan_id: str) -> Plan:
    """The plan; raises :class:`WrongUsage` when there is none."""
    found = plans.plan(plan_id)
    if found is None:
        raise WrongUsage(f"there is no plan {plan_id}: see sluice redrive list")
    return found
