"""``sluice restore reference``: the reference topics made again from their mirror in ClickHouse."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Annotated

import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.domain.conclusion import Recorder
from sluice.domain.errors import SluiceError
from sluice.domain.topics import REFERENCE
from sluice.ports.intake import Taken
from sluice.record.mirror import as_they_are, mirrored
from sluice.record.reference_rebuild import Entry, Standing, entries
from sluice.runtime import console as parts
from sluice.runtime import console_restore as restoring
from sluice.runtime.config import Settings, load_settings

_COLUMNS: tuple[Standing, ...] = ("restore", "remove", "same", "newer", "gone")


def reference(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish what the reference topics lack of their mirror in ClickHouse: tenants, templates, profiles, suppressions,
    suspended sites. Then mirror the topics again.

    Nothing that was written to a topic later than the mirror's record is touched, and removed records stay removed.
    What the record service had not mirrored when Kafka was lost is not there; it mirrors within seconds.
    Safe to repeat: the second time there is nothing to do. It needs the SLUICE_HASH_KEY that the mirror was made with.

    Example: [cyan]sluice restore reference --dry-run[/]
    """
    settings = load_settings()
    parts.require(settings, *REFERENCE)
    found = _compared(settings)
    missing = [one.record for one in found if one.record is not None]
    if not as_json:
        _show(found)
    if missing and not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise WrongUsage("nobody is there to be asked: give --yes, or --dry-run")
            typer.confirm(f"Publish {len(missing):,} records?", abort=True, err=True)
        parts.publish(settings, missing)
        if any(one.record for one in _compared(settings)):
            raise SluiceError("the topics do not hold what was published: is somebody else changing them? Say it again")
        _mirror_again(settings)
    counted = Counter(one.standing for one in found)
    if as_json:
        print_json(
            {"published": 0 if dry_run else len(missing), "dry_run": dry_run, **{c: counted[c] for c in _COLUMNS}}
        )
    elif not missing:
        say("nothing to do: the topics hold what the mirror holds, or newer")
    else:
        say(f"{len(missing):,} records would be published" if dry_run else f"published {len(missing):,} records")


def _compared(settings: Settings) -> list[Entry]:
    with parts.clickhouse(settings, timeout_s=3600) as store:
        kept = restoring.mirror(store).records()
    if not kept:
        raise SluiceError(
            "ClickHouse has no mirror of the reference topics: the record service makes it, from this version on"
        )
    return entries(kept, _there(settings), _recorder(settings).hashed)


def _there(settings: Settings) -> list[Taken]:
    return [record for topic in REFERENCE for record in parts.read_topic(settings, topic)]


def _mirror_again(settings: Settings) -> None:
    """Topics made anew count from 0, and what analysts read goes by the count."""
    records, hashed = _there(settings), _recorder(settings).hashed
    rows = [row for record in records if (row := mirrored(record, hashed)) is not None]
    with parts.clickhouse(settings, timeout_s=3600) as store:
        mirror = restoring.mirror(store)
        mirror.empty(settings.clickhouse_cluster)
        asyncio.run(mirror.keep([*rows, *as_they_are(records, hashed)]))


def _recorder(settings: Settings) -> Recorder:
    return Recorder("sluice restore", settings.hash_key.get_secret_value().encode())


def _show(found: list[Entry]) -> None:
    by_topic = {topic: Counter(one.standing for one in found if one.topic == topic) for topic in REFERENCE}
    rows = [(topic, *(counted[column] for column in _COLUMNS)) for topic, counted in by_topic.items()]
    console().print(table(("topic", *(f"{column}>" for column in _COLUMNS)), rows))
