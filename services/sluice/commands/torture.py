"""``sluice torture``."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.commands.failures import EXIT_FAILED, WrongUsage
from sluice.commands.output import console, print_json, table
from sluice.local.display import Display
from sluice.local.folder import DataFolder
from sluice.local.torture.laboratory import Laboratory, Run, prepare
from sluice.local.torture.plan import KINDS, MEANINGS, SERVICES, Kind, Plan, draw, read_plan, write_plan
from sluice.local.torture.report import COLUMNS, Report, as_data, breach_lines, recovery_row, report, sentences

FIRST_PORT = 23_000
KIND_HELP = "Which faults, separated by commas; all by default: " + "; ".join(
    f"[bold]{kind}[/] {meaning}" for kind, meaning in MEANINGS.items()
)


def torture(
    duration: Annotated[float, typer.Option(min=5, help="Seconds that faults are injected for.")] = 60.0,
    mails: Annotated[int | None, typer.Option(min=1, help="How many mails; as many as the rate gives.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Mails published per second.")] = 60.0,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Processes of deliver and of compose.")] = 2,
    faults: Annotated[str, typer.Option(metavar="KIND,KIND", help=KIND_HELP)] = ",".join(KINDS),
    every: Annotated[float, typer.Option(min=0.5, help="About one fault in so many seconds.")] = 4.0,
    longest_stop: Annotated[float, typer.Option(min=4, help="Most seconds that a worker is suspended.")] = 25.0,
    static: Annotated[bool, typer.Option("--static", help="Workers are static members of Kafka's groups.")] = False,
    replay: Annotated[
        float, typer.Option(min=0, max=1, help="Part of all batches of outcomes to store a second time at the end.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Another number draws other faults.")] = 1,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Follow this plan; the options above are not looked at.", exists=True),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the plan as JSON, and do nothing.")] = False,
    data: Annotated[Path | None, typer.Option(help="Keep data and logs here; emptied first.", file_okay=False)] = None,
    patience: Annotated[float, typer.Option(help="Give up after so many seconds without a mail that ends.")] = 90.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report here too.")] = None,
    first_port: Annotated[int, typer.Option(hidden=True)] = FIRST_PORT,
) -> None:
    """Hurt a running Sluice by a plan, and account for every mail.

    Starts real Kafka, ClickHouse, an adversarial receiving server and the services; publishes mails; kills, suspends,
    parts and delays processes as the plan says; waits for quiet. Then three independent records are compared: the ids
    that Kafka acknowledged to the publisher, the mails that the receiving server took (it writes each down before it
    answers), and the outcomes in ClickHouse.

    Exit code 1 when a mail was lost; has no ending; is called delivered and never arrived; came oftener than it was in
    doubt; or when ClickHouse lacks an outcome or has one twice.

    The plan is drawn from the seed and kept in the data folder: the same seed and options, or [bold]--plan FILE[/],
    do the same again.

    Example: [cyan]sluice torture --seed 7[/]
    [cyan]sluice torture --faults kill,broker --duration 300 --rate 200[/]
    [cyan]sluice torture --dry > plan.json; sluice torture --plan plan.json[/]
    """
    chosen = read_plan(plan.read_bytes()) if plan else None
    if chosen is None:
        counts = {service: workers if service in ("deliver", "compose") else 1 for service in SERVICES}
        chosen = draw(
            seed,
            duration=duration,
            mails=mails or max(1, round(duration * rate)),
            rate=rate,
            workers=counts,
            kinds=_kinds(faults),
            every=every,
            longest_stop=longest_stop,
            static_members=static,
            replay=replay,
        )
    if dry:
        print_json(chosen)
        return
    set_up_logs("torture", "local", level="error", form="console")
    for chatty in ("sluice.client", "urllib3"):
        # What is away is away on purpose.
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    display = Display(console(), live=None)
    with tempfile.TemporaryDirectory(prefix="sluice-torture-") as scratch:
        made = _run(chosen, data or Path(scratch) / "data", first_port, patience, display)
    if json_file is not None:
        json_file.write_bytes(_json(made))
    show(made, display)
    if not made.good:
        raise typer.Exit(EXIT_FAILED)


def _run(plan: Plan, data: Path, first_port: int, patience: float, display: Display) -> Report:
    folder = DataFolder(data)
    folder.wipe()
    stack = prepare(plan, data, first_port, display.progress)
    (folder.path / "plan.json").write_bytes(write_plan(plan))
    display.say(f"seed {plan.seed}: {plan.mails:,} mails at {plan.rate:g}/s, {len(plan.faults)} faults")
    laboratory = Laboratory(stack, plan, patience=patience, say=display.say, progress=display.progress)

    async def work() -> Run:
        display.start()
        try:
            return await laboratory.run(display.watch)
        finally:
            display.stop()

    made = report(plan, asyncio.run(work()))
    (folder.path / "report.json").write_bytes(_json(made))
    return made


def show(made: Report, display: Display) -> None:
    """The table of faults, the sums, and what is wrong."""
    recoveries = made.findings.recoveries
    if recoveries:
        began = recoveries[0].injected.at - recoveries[0].injected.fault.at
        rows = [recovery_row(recovery, began) for recovery in recoveries]
        display.console.print(table(COLUMNS, rows))
        display.say("silent: the longest time around the fault in which no mail came to the receiving server")
        display.say("caught up: from the fault's beginning until every mail accepted before it had come")
        display.say("")
    for line in (*sentences(made), *breach_lines(made)):
        display.say(line)
    display.say("every invariant holds" if made.good else f"BROKEN; the same again: --seed {made.plan.seed}, or --plan")


def _kinds(text: str) -> list[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in KINDS]:
        raise WrongUsage(f"no such faults: {', '.join(unknown)}. There are: {', '.join(KINDS)}")
    return cast("list[Kind]", names)


def _json(made: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(as_data(made)), indent=2) + b"\n"
