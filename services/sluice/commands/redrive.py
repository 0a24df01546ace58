"""``sluice redrive``: mails selected by SQL, and sent again, each once."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sluice.commands import redrive_drive
from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.commands.redrive_shown import estimate, overview, plan_tables, sample_rows, status_tables
from sluice.commands.redrive_words import As, PlanId, known_plan, word
from sluice.domain.redrive import standing
from sluice.ports.redrive import Limits
from sluice.redrive.planning import Wish, make_plan
from sluice.runtime import console as parts
from sluice.runtime import console_redrive as redrive
from sluice.runtime.config import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="Select mails by SQL, see what would be driven again and what not, and drive them, each once.",
)
app.command(name="start")(redrive_drive.start)
app.command(name="pause")(redrive_drive.pause)
app.command(name="resume")(redrive_drive.resume)
app.command(name="cancel")(redrive_drive.cancel)

_DEFAULT = Limits()


@app.command()
def plan(
    where: Annotated[
        str | None,
        typer.Option("--where", "-w", help="A condition over the columns of outcomes; each mail that has one such."),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's mails.")] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Dead letters: what a step failed on, after the fix. Without --where, all.")
    ] = False,
    as_: As = None,
    sample: Annotated[int, typer.Option("--sample", min=0, max=1000, help="Mails shown of each kind.")] = 5,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that selecting may take.")] = 60,
    memory: Annotated[int, typer.Option("--memory", min=64, help="MiB that selecting may take.")] = 2048,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows that selecting may read.")] = _DEFAULT.rows,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Mails that may be selected.")] = _DEFAULT.mails,
    as_json: AsJson = False,
) -> None:
    """Make a plan: which mails would be driven again, which not and why, and how long it takes. Sends nothing.

    Example: [cyan]sluice redrive plan --tenant acme --where "event_type = 'bounced' AND category = 'spam_block'"[/]
    """
    if where is None and not dead:
        raise WrongUsage("say which mails: --where \"event_type = 'bounced' AND …\", or --dead")
    settings = load_settings()
    spoken = word("plan", "", as_)
    plan_id = f"{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(4)}"
    wish = Wish(
        plan_id=plan_id,
        predicate=where if where is not None else "true",
        tenant_id=tenant or "",
        dead_letters=dead,
        by=spoken.by,
        at=datetime.now(UTC).replace(microsecond=0),
        limits=Limits(timeout, memory << 20, rows, limit),
    )
    parts.reach(settings)
    with redrive.store(settings) as store, redrive.contents(settings) as contents:
        made, items = make_plan(wish, store.mails, contents)
        store.plans.keep(made, items)
        store.plans.say(word("plan", plan_id, as_, note=f"{made.mails} mails"))
    needed = estimate(settings, made)
    picked = sample_rows(items, sample)
    if as_json:
        return print_json(
            {
                "plan": made,
                "selected": len(items),
                "estimate": needed,
                "sample": picked,
            }
        )
    for shown in plan_tables(made, picked, needed):
        console().print(shown)
    if not made.mails:
        return say("nothing to drive")
    return say(f"plan {plan_id}: {made.mails:,} mails; drive them: sluice redrive start {plan_id}")


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List plans, the latest first, and how each stands.

    Example: [cyan]sluice redrive list[/]
    """
    with redrive.store(load_settings()) as store:
        found = [
            overview(each, standing(store.plans.words(each.plan_id)), store.plans.progress(each.plan_id))
            for each in store.plans.plans()
        ]
    if as_json:
        return print_json(found)
    if not found:
        return say("there are no plans; make one: sluice redrive plan")
    columns = ("plan", "state", "mails>", "driven>", "tenant", "by", "made at", "predicate")
    rows = [(o.plan, o.state, o.mails, o.driven, o.tenant, o.created_by, o.created_at, o.predicate[:60]) for o in found]
    return console().print(table(columns, rows))


@app.command()
def status(plan_id: PlanId, as_json: AsJson = False) -> None:
    """Show a plan: how far it is, what became of its mails, and who said what of it.

    Example: [cyan]sluice redrive status 20260501-1f2e3d4c[/]
    """
    settings = load_settings()
    with redrive.store(settings) as store:
        found = known_plan(store.plans, plan_id)
        words = store.plans.words(plan_id)
        progress = store.plans.progress(plan_id)
        results = store.mails.results(found)
    shown = overview(found, standing(words), progress)
    data: dict[str, Any] = {"plan": found, "status": shown, "results": results, "audit": words}
    if as_json:
        return print_json(data)
    for made in status_tables(found, shown, results, words):
        console().print(made)
    return None
