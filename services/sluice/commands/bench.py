"""``sluice bench``."""

from __future__ import annotations

import asyncio
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluice.adapters.telemetry.logs import set_up_logs
from sluice.commands.failures import EXIT_FAILED
from sluice.commands.output import AsJson, console, duration, print_json, table
from sluice.local.bench import Bench, Load, Result, Sink, bench_options, bench_reference
from sluice.local.display import Display
from sluice.local.folder import DataFolder
from sluice.local.running import Interrupted, running
from sluice.local.stack import LocalStack, plan

FIRST_PORT = 21_000
"""So that a measurement does not take the ports that `sluice up` would have next time."""


class SinkName(StrEnum):
    """What receives the mails."""

    fast = "fast"
    mailbox = "mailbox"


class Signing(StrEnum):
    """Which DKIM signatures a mail gets."""

    both = "both"
    rsa = "rsa"
    ed25519 = "ed25519"
    none = "none"


SELECTORS: dict[Signing, tuple[str, ...]] = {
    Signing.both: ("rsa", "ed25519"),
    Signing.rsa: ("rsa",),
    Signing.ed25519: ("ed25519",),
    Signing.none: (),
}
Processes = Annotated[int, typer.Option(min=1, max=64, help="How many of these processes.")]


def bench(
    mails: Annotated[int, typer.Option(min=1, help="How many mails are measured.")] = 20_000,
    warm_up: Annotated[int, typer.Option(min=1, help="How many are sent before, and not measured.")] = 1_000,
    size: Annotated[int, typer.Option(min=2_000, help="About how many bytes a mail has when composed.")] = 4096,
    domains: Annotated[int, typer.Option(min=1, max=10_000, help="To how many domains.")] = 50,
    templated: Annotated[bool, typer.Option("--template/--content", help="Render a template, or send content.")] = True,
    sign: Annotated[Signing, typer.Option(help="DKIM signatures.")] = Signing.both,
    sink: Annotated[
        SinkName, typer.Option(help="fast only counts mails; mailbox keeps each as a file.")
    ] = SinkName.fast,
    compose: Processes = 1,
    deliver: Processes = 1,
    record: Processes = 1,
    data: Annotated[Path | None, typer.Option(help="Keep data and logs here; emptied first.", file_okay=False)] = None,
    patience: Annotated[float, typer.Option(help="Give up after this many seconds without a delivery.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Measure how many mails a second go all the way, on this machine.

    From the first publish to the last 250 and the last outcome in ClickHouse, whichever is later; Kafka, ClickHouse,
    the producer and the receiving server run on the same machine, and sites' limits are off.
    """
    load = Load(
        mails=mails, warm_up=warm_up, size=size, domains=domains, templated=templated, selectors=SELECTORS[sign]
    )
    set_up_logs("bench", "local", level="error", form="console")
    display = Display(console(stderr=as_json), live=None)
    counts = {"compose": compose, "deliver": deliver, "wheel": 1, "record": record}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as scratch:
        folder = data if data is not None else Path(scratch) / "data"
        DataFolder(folder).wipe()
        options = bench_options(folder, sink.value, counts, first_port=FIRST_PORT)
        stack = plan(options, bench_reference(load), say=display.progress)
        try:
            result = asyncio.run(_bench(stack, display, load, sink.value, patience))
        except Interrupted:
            raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        print_json(result)
    else:
        show(result, display)


async def _bench(stack: LocalStack, display: Display, load: Load, sink: Sink, patience: float) -> Result:
    display.start()
    try:
        async with running(stack, display.watch) as run:
            return await run.during(Bench(run, load, sink, display.progress, patience).measure())
    finally:
        display.stop()


def show(result: Result, display: Display) -> None:
    """For people."""
    load = result.load
    display.say(
        f"{result.delivered:,} mails of {result.mean_size:,.0f} bytes to {load.domains} domains, "
        f"{'from a template' if load.templated else 'content given'}, signed with "
        f"{' and '.join(load.selectors) or 'nothing'}"
    )
    receiver = "a sink that only counts" if result.sink == "fast" else "the mailbox, which keeps every mail as a file"
    told = ", ".join(f"{number} {name}" for name, number in result.processes.items())
    display.say(f"{told}; receiving: {receiver}; all on {result.cores} cores ({result.processor or 'unknown'})")
    display.say(f"{load.warm_up:,} mails of warm-up are not counted")
    display.say("")
    display.say(
        f"{result.mails_per_second:,.0f} mails/s from the first publish to the last 250 and outcome in ClickHouse"
    )
    display.say(f"{result.mails_per_second_to_250:,.0f} mails/s to the last 250 alone")
    display.say(
        f"published in {result.publishing:.1f} s, last 250 after {result.until_last_250:.1f} s, last outcome stored "
        f"after {result.until_last_outcome:.1f} s"
    )
    display.say(
        f"publish to 250, all published at once: half within {duration(result.p50_ms)}, 99 % within "
        f"{duration(result.p99_ms)}"
    )
    rows = [(name, f"{used:.3f}") for name, used in result.cpu_ms_per_mail.items()]
    rows.append(("in all", f"{result.cpu_ms_in_all:.3f}"))
    display.console.print(table(("process", "CPU ms per mail>"), rows))
