"""``sluice redrive start``, ``pause``, ``resume``, ``cancel``."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, report
from sluice.commands.redrive_shown import overview
from sluice.commands.redrive_words import As, PlanId, known_plan, word
from sluice.domain.errors import RuleError, SluiceError
from sluice.domain.events import Priority
from sluice.domain.redrive import Action, Options, Plan, Standing, standing
from sluice.domain.shaping import Rate
from sluice.ports.redrive import Progress
from sluice.redrive.driver import Driver, Ended
from sluice.redrive.step import Run
from sluice.runtime import console as parts
from sluice.runtime import console_redrive as redrive
from sluice.runtime import console_rules
from sluice.runtime.config import Settings, load_settings

RateOption = Annotated[
    str | None, typer.Option("--rate", help="Most mails a time, such as 100/s; as it was, or no limit, when not given.")
]
Note = Annotated[str, typer.Option("--note", help="Why; kept in the audit.")]


def start(
    plan_id: PlanId,
    rate: RateOption = None,
    egress: Annotated[
        str | None, typer.Option("--egress", help="Leave from this egress or pool, whatever tenant and site say.")
    ] = None,
    template_version: Annotated[
        int | None, typer.Option("--template-version", min=1, help="Render mails of templates from this version.")
    ] = None,
    priority: Annotated[Priority | None, typer.Option("--priority", help="Instead of each mail's own.")] = None,
    as_: As = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Drive a plan's mails, here and now, until all are driven or somebody says otherwise.

    A plan whose driver was killed is started again in the same way. Of two drivers of one plan the later one goes on,
    and each mail is driven once whatever happens. All but the rate is fixed with the first start.

    Example: [cyan]sluice redrive start 20260501-1f2e3d4c --rate 200/s --priority bulk[/]
    """
    given = Options(rate=rate, egress=egress, template_version=template_version, priority=priority)
    _drive("start", plan_id, given, as_, note, as_json=as_json)


def resume(plan_id: PlanId, rate: RateOption = None, as_: As = None, note: Note = "", as_json: AsJson = False) -> None:
    """Go on with a plan that was started, here and now, as it was started.

    Example: [cyan]sluice redrive resume 20260501-1f2e3d4c[/]
    """
    _drive("resume", plan_id, Options(rate=rate), as_, note, as_json=as_json)


def pause(plan_id: PlanId, as_: As = None, note: Note = "", as_json: AsJson = False) -> None:
    """Have a plan's driver stop, wherever it runs: within a second, or the batch under way. Go on with resume.

    Example: [cyan]sluice redrive pause 20260501-1f2e3d4c --note "complaints"[/]
    """
    _say("pause", plan_id, as_, note, as_json=as_json)


def cancel(plan_id: PlanId, as_: As = None, note: Note = "", as_json: AsJson = False) -> None:
    """End a plan for good: what is not driven by now stays as it is. What was driven is on its way.

    Example: [cyan]sluice redrive cancel 20260501-1f2e3d4c[/]
    """
    _say("cancel", plan_id, as_, note, as_json=as_json)


def _say(action: Action, plan_id: str, as_: str | None, note: str, *, as_json: bool) -> None:
    with redrive.store(load_settings()) as store:
        plan = known_plan(store.plans, plan_id)
        stands = standing(store.plans.words(plan_id))
        if stands.state in ("done", "cancelled"):
            raise WrongUsage(f"plan {plan_id} is {stands.state}: there is nothing to {action}")
        if action == "pause" and stands.state == "planned":
            raise WrongUsage(f"plan {plan_id} was not started")
        store.plans.say(word(action, plan_id, as_, note=note))
        shown = overview(plan, standing(store.plans.words(plan_id)), store.plans.progress(plan_id))
    report(shown, f"plan {plan_id} is {shown.state}: {shown.driven:,} driven, {shown.left:,} not", as_json=as_json)


def _drive(action: Action, plan_id: str, given: Options, as_: str | None, note: str, *, as_json: bool) -> None:
    settings = load_settings()
    parts.reach(settings)
    with redrive.store(settings) as store:
        plan = known_plan(store.plans, plan_id)
        options = _options(settings, plan_id, action, standing(store.plans.words(plan_id)), given)
        run = Run(plan_id, secrets.token_hex(4), options)
        store.plans.say(word(action, plan_id, as_, run=run.name, options=options, note=note))
        try:
            with redrive.contents(settings) as contents, _shown(plan, quiet=as_json) as told:

                async def drive() -> Ended:
                    # Ended from outside, it says so as when it is interrupted from within.
                    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
                    async with redrive.bus(settings) as bus:
                        driver = Driver(
                            plan, run, plans=store.plans, mails=store.mails, contents=contents, bus=bus,
                            clock=redrive.clock(), told=told,
                        )  # fmt: skip
                        return await driver.drive()

                ended = asyncio.run(drive())
        except (SluiceError, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            store.plans.say(word("stopped", plan_id, as_, run=run.name, note=why[:500]))
            raise
        if ended.state == "done":
            store.plans.say(word("done", plan_id, as_, run=run.name))
        stands = standing(store.plans.words(plan_id))
        shown = overview(plan, stands, store.plans.progress(plan_id))
    skipped = sum(shown.skipped.values())
    out = f", {skipped:,} left out at last" if skipped else ""
    report(
        {"ended": ended.why, **msgspec.structs.asdict(shown)},
        f"plan {plan_id} {shown.state}: {shown.driven:,} driven{out}, {shown.left:,} left; {ended.why}. "
        f"What becomes of them: sluice redrive status {plan_id}",
        as_json=as_json,
    )


def _options(settings: Settings, plan_id: str, action: Action, stands: Standing, given: Options) -> Options:
    """How to drive: as is said now, or as it was at the first start."""
    if stands.state in ("done", "cancelled"):
        raise WrongUsage(f"plan {plan_id} is {stands.state}; to drive what failed again, make a new plan")
    earlier = stands.options
    if earlier is None:
        if action == "resume":
            raise WrongUsage(f"plan {plan_id} was not started: sluice redrive start {plan_id}")
        options = given
    else:
        if given.fixed() not in (Options(), earlier.fixed()):
            raise WrongUsage(
                f"plan {plan_id} was started with other options, and only --rate may change: what was driven one way "
                "cannot be driven another. Cancel it, and make a new plan of what is left"
            )
        options = msgspec.structs.replace(earlier, rate=given.rate or earlier.rate)
    if options.rate is not None:
        try:
            Rate.parse(options.rate)
        except RuleError as error:
            raise WrongUsage(f"--rate: {error}") from error
    if options.egress is not None:
        console_rules.egresses(settings).check([options.egress], "--egress")
    return options


@contextmanager
def _shown(plan: Plan, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar for people who look; nothing for programs."""
    errors = console(stderr=True)
    if quiet or not errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, TimeRemainingColumn(), console=errors, transient=True) as bar:
        task = bar.add_task("", total=plan.mails)

        def show(progress: Progress) -> None:
            left_out = sum(progress.skipped.values())
            bar.update(task, completed=progress.next, description=f"{left_out:,} left out" if left_out else "")

        yield show
