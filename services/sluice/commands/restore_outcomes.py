"""``sluice restore outcomes``: ClickHouse's tables made again from Kafka."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.groups import group_name
from sluice.commands.output import AsJson, report, warn
from sluice.domain.errors import SluiceError
from sluice.domain.topics import OUTCOME
from sluice.record.rebuild import Rebuilt, rebuild
from sluice.runtime import console as parts
from sluice.runtime import console_restore as restoring
from sluice.runtime.config import Settings, load_settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.client import ClickHouse

RECORD = group_name("record")
_TELL_EVERY_S = 5.0
"""Where nobody sees a line change."""


class Summary(msgspec.Struct, frozen=True):
    """What was done, for programs."""

    database: str
    group: str
    outcomes: int
    batches: int
    unreadable: int
    older_than_kafka: bool
    """Whether some partition no longer begins at its first record: what was before is in backups only."""
    seconds: float


def outcomes(
    into: Annotated[
        str | None, typer.Option("--into", metavar="DATABASE", help="Another database, beside the one in use.")
    ] = None,
    go_on: Annotated[bool, typer.Option("--continue", help="Go on where an earlier restore was stopped.")] = False,
    after_backup: Annotated[
        bool, typer.Option("--after-backup", help="The tables came from a backup: add what Kafka has beyond them.")
    ] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="With --into: have the record service go on in that database.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record all outcomes that Kafka still has into empty tables, rollups included, each once.

    Without --into the record service must be stopped; start it again afterwards, and it goes on where this ended.
    With --into it goes on meanwhile in the database that it has.
    Kafka keeps outcomes for 7 days unless you changed it; what is older comes from a backup of ClickHouse.
    Stopped half-way, say it again with --continue: nothing is recorded twice.

    Example: [cyan]sluice restore outcomes[/]

    Example: [cyan]sluice restore outcomes --into sluice_drill[/]
    """
    settings = load_settings()
    if go_on and after_backup:
        raise WrongUsage("give --continue or --after-backup, not both")
    if switch and into is None:
        raise WrongUsage("--switch goes with --into")
    if into == settings.clickhouse_database:
        raise WrongUsage(f"{into} is the database in use: leave --into out")
    parts.require(settings, OUTCOME)
    group = f"sluice-restore.{into}" if into else RECORD
    target = settings.model_copy(update={"clickhouse_database": into}) if into else settings
    _nobody_in(settings, group, "stop the record service first" if into is None else "another restore is under way")
    if switch:
        _nobody_in(settings, RECORD, "stop the record service first")
    done = _run(target, group, go_on=go_on, after_backup=after_backup, quiet=as_json)
    if switch:
        spans = restoring.spans(settings, parts.reach(settings))
        restoring.places(settings).move(RECORD, OUTCOME, restoring.standing(settings, group, spans))
    report(done, _sentence(done, switch=switch), as_json=as_json)


def _run(settings: Settings, group: str, *, go_on: bool, after_backup: bool, quiet: bool) -> Summary:
    began = time.monotonic()
    with parts.clickhouse(settings, timeout_s=3600) as store:
        parts.migrations().apply(store, cluster=settings.clickhouse_cluster)
        held = restoring.restored().rows_held(store)
        if held and not (go_on or after_backup):
            named = ", ".join(f"{table} {count:,}" for table, count in held.items())
            raise SluiceError(
                f"{settings.clickhouse_database} holds rows already ({named}), which would be counted twice: restore "
                "--into another database, go on with --continue after a restore that was stopped, or add what Kafka "
                "has beyond a backup with --after-backup"
            )
        spans = restoring.spans(settings, parts.reach(settings))
        if not go_on:
            restoring.places(settings).forget(group)
        if after_backup:
            following = restoring.restored().log_ends(store)
            _tell_gaps(spans, following)
            restoring.places(settings).move(group, OUTCOME, {p: o for p, o in following.items() if p in spans})
        finished = asyncio.run(_rebuilt(settings, group, store, spans, quiet=quiet))
    return Summary(
        settings.clickhouse_database,
        group,
        finished.outcomes,
        finished.batches,
        finished.unreadable,
        not after_backup and any(first > 0 for first, _ in spans.values()),
        round(time.monotonic() - began, 1),
    )


async def _rebuilt(
    settings: Settings, group: str, store: ClickHouse, spans: Mapping[int, tuple[int, int]], *, quiet: bool
) -> Rebuilt:
    source = restoring.batches(settings, group)
    line = Line(sum(end - first for first, end in spans.values()))
    try:
        return await rebuild(
            source=source,
            store=restoring.outcomes(store),
            clock=restoring.clock(),
            ends={partition: end for partition, (_, end) in spans.items()},
            standing=lambda: restoring.standing(settings, group, spans),
            told=(lambda _: None) if quiet else line.tell,
        )
    finally:
        line.end()
        await source.close()


class Line:
    """How far it is, on standard error: a line that changes for people, one now and then for a file."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._terminal = sys.stderr.isatty()
        self._told_at = 0.0
        self._open = False

    def tell(self, now: Rebuilt) -> None:
        """Say it, unless it was said just now."""
        if not self._terminal and now.left and time.monotonic() - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = time.monotonic()
        done = 100 * (self._records - now.left) // self._records if self._records else 100
        away = ", ClickHouse or Kafka is away" if now.waiting else ""
        text = f"{done} %: {now.outcomes:,} outcomes in {now.batches:,} batches, {now.left:,} records left{away}"
        sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        sys.stderr.flush()
        self._open = self._terminal

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            sys.stderr.write("\n")


def _nobody_in(settings: Settings, group: str, remedy: str) -> None:
    found = restoring.group(settings, group)
    if found.members:
        raise SluiceError(
            f"{found.members} processes are in the group {group}: {remedy}. One that was killed is counted for up to "
            "45 s"
        )


def _tell_gaps(spans: Mapping[int, tuple[int, int]], following: Mapping[int, int]) -> None:
    for partition, (first, _) in sorted(spans.items()):
        if (missing := first - following.get(partition, 0)) > 0 and first > 0:
            warn(
                f"{OUTCOME} {partition}: up to {missing:,} outcomes between the backup and the oldest that Kafka has "
                "are in neither"
            )


def _sentence(done: Summary, *, switch: bool) -> str:
    told = [f"{done.outcomes:,} outcomes are in {done.database}, in {done.seconds:g} s"]
    if done.unreadable:
        told.append(f"{done.unreadable:,} records could not be read and were left out; they are in mail.dead")
    if done.older_than_kafka:
        told.append("Kafka no longer has the oldest ones: what was before is in backups of ClickHouse only")
    if switch:
        told.append(f"start record with SLUICE_CLICKHOUSE_DATABASE={done.database}")
    elif done.group == RECORD:
        told.append("start the record service: it goes on from here")
    else:
        told.append(f"compare them with: sluice restore compare {done.database}")
    return "\n".join(told)
