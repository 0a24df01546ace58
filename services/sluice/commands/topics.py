"""``sluice topics``: the Kafka topics of an installation."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table, warn
from sluice.domain.errors import SluiceError
from sluice.domain.topics import IDEMPOTENCY, OUTCOME, READY, SEND, TopicSpec, topics
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

if TYPE_CHECKING:
    from sluice.adapters.kafka.topics import Change, TopicAdmin

app = typer.Typer(
    no_args_is_help=True,
    help="Plan and apply Kafka topics. Partition counts come from SLUICE_KAFKA_*_PARTITIONS. Kafka can add partitions "
    "to a topic and never takes any away: a smaller number is refused.",
)
_size = partial(typer.Option, rich_help_panel="How large")
_MADE = ("create", "grow", "configure")
_SETTLE_S = 15.0
_COLUMNS = ("topic", "action", "detail")


@app.command()
def plan(
    rate: Annotated[float | None, _size("--rate", help="Mails per second, on average over a week.")] = None,
    peak: Annotated[float | None, _size("--peak", help="At the busiest; default: four times the rate.")] = None,
    heavy_site: Annotated[
        list[str] | None,
        _size("--heavy-site", metavar="NAME=PERCENT", help="Its part of all mail: google=40%. Repeat."),
    ] = None,
    mail_bytes: Annotated[int, _size("--mail-bytes", help="Of a mail, on average.")] = 30_000,
    as_json: AsJson = False,
) -> None:
    """Compare the cluster with what Sluice needs, and change nothing. With --rate: how much that load needs.

    Example: [cyan]SLUICE_KAFKA_LANE_PARTITIONS=12 sluice topics plan[/]

    Example: [cyan]sluice topics plan --rate 200 --peak 2000 --heavy-site google=40%[/]
    """
    if rate is None:
        if peak is not None or heavy_site:
            raise WrongUsage("--peak and --heavy-site go with --rate")
        return _run(apply_it=False, as_json=as_json)
    from sluice.commands.topics_sizing import heavy_sites, print_size
    from sluice.domain.sizing import Load

    heavy = heavy_sites(heavy_site or [])
    replication = max(3, load_settings().kafka_replication)
    load = Load(rate=rate, peak=peak or 4 * rate, mail_bytes=mail_bytes, heavy=heavy, replication=replication)
    return print_size(load, as_json=as_json)


@app.command()
def apply(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before partitions are added.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create what is missing, add partitions, correct settings; safe to repeat.

    Partitions that are added stay: what that means is said first, and on a terminal it asks.
    Exit code 1 when something is refused; all else is done nevertheless.
    Running services notice within seconds: lanes move with their number.

    Example: [cyan]sluice topics apply[/]
    """
    _run(apply_it=True, as_json=as_json, ask=not yes and sys.stdin.isatty())


def _run(*, apply_it: bool, as_json: bool, ask: bool = False) -> None:
    settings = load_settings()
    parts.reach(settings)
    admin = parts.topic_admin(settings)
    wanted = topics(parts.layout(settings))
    if apply_it and (growing := [change for change in admin.plan(wanted) if change.action == "grow"]):
        warn(for_good(growing))
        if ask:
            typer.confirm("Add them?", abort=True, err=True)
    changes = admin.apply(wanted) if apply_it else admin.plan(wanted)
    if apply_it and any(change.action in _MADE for change in changes):
        _settle(admin, wanted)
    if as_json:
        print_json([msgspec.structs.asdict(change) for change in changes])
    else:
        open_ = [(c.topic, c.action, c.detail) for c in changes if c.action != "keep"]
        kept = len(changes) - len(open_)
        if open_:
            console().print(table(_COLUMNS, open_))
        done = "done" if apply_it else "to do; apply with: sluice topics apply"
        say(f"{kept} topics as they should be, {len(changes) - kept} {done}" if kept < len(changes) else
            f"all {kept} topics are as they should be")  # fmt: skip
    refused = [change.topic for change in changes if change.action == "refused"]
    if refused:
        warn(
            f"sluice topics: refused for {', '.join(refused)}: Kafka never takes partitions away. Set the number that "
            "is there, or move to new topics in a new cluster."
        )
        raise typer.Exit(1)


def for_good(growing: Sequence[Change]) -> str:
    """What cannot be undone about adding partitions, and what else it does. Pure."""
    named = "\n".join(f"  {change.topic}: {change.detail}" for change in growing)
    told = [f"These topics get more partitions, for good: Kafka never takes partitions away.\n{named}"]
    names = {change.topic for change in growing}
    if names & {*READY.values(), OUTCOME}:
        told.append("Lanes move to other partitions; their waiting mails are forwarded, and limits hold.")
    if names & {*SEND.values(), IDEMPOTENCY}:
        told.append("Idempotency keys stay where they are: one that was used before may pass once more.")
    told.append("The only way back is a new cluster, to which producers move once this one is drained.")
    return "\n".join(told)


def _settle(admin: TopicAdmin, wanted: Sequence[TopicSpec]) -> None:
    """Wait until brokers show what the controller agreed to, so that the next command finds it."""
    deadline = time.monotonic() + _SETTLE_S
    while any(change.action in _MADE for change in admin.plan(wanted)):
        if time.monotonic() > deadline:
            raise SluiceError(f"Kafka agreed, but does not show it after {_SETTLE_S:.0f} s: see sluice topics plan")
        time.sleep(0.1)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List Sluice's topics as they are in the cluster, with what they hold.

    Example: [cyan]sluice topics list[/]
    """
    settings = load_settings()
    there = parts.reach(settings)
    specs = topics(parts.layout(settings))
    spans = parts.survey(settings).spans({spec.name: there[spec.name] for spec in specs if spec.name in there})
    rows = [
        (
            spec.name,
            there.get(spec.name, 0),
            spec.partitions,
            sum(end - first for (topic, _), (first, end) in spans.items() if topic == spec.name),
            spec.policy,
            spec.why,
        )
        for spec in specs
    ]
    columns = ("topic", "partitions>", "wanted>", "records>", "policy", "carries")
    if as_json:
        print_json([dict(zip((c.removesuffix(">") for c in columns), row, strict=True)) for row in rows])
    else:
        console().print(table(columns, rows))
