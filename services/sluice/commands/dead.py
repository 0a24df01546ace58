"""``sluice dead``: records that could not be handled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, report, say, table
from sluice.domain.errors import SluiceError
from sluice.domain.outcome import moment
from sluice.domain.topics import DEAD
from sluice.ports.bus import Record
from sluice.ports.held import is_held, is_note
from sluice.ports.intake import Taken
from sluice.ports.records import ORIGIN, REASON, replay_record
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="List records that could not be handled, and replay them.")

Matching = Annotated[str | None, typer.Option("--reason", "-r", help="Only those whose reason contains this text.")]
FromTopic = Annotated[str | None, typer.Option("--from", help="Only those that came from this topic.")]
_place = re.compile(r"(?:(\d+):)?(\d+)")


class Letter(msgspec.Struct, frozen=True):
    """A dead letter: where it stands in ``mail.dead``, where it came from, and why it is there."""

    id: str
    origin: str
    reason: str
    bytes: int
    set_aside_at: str


@app.command(name="list")
def list_(
    reason: Matching = None,
    origin: FromTopic = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows shown, the latest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, and how many there are for each reason. Held mails are among them: see sluice mail held.

    Example: [cyan]sluice dead list --from mail.send.normal[/]
    """
    found = [_letter(record) for record in _matching(parts.read_topic(load_settings(), DEAD), reason, origin)]
    latest = found[::-1][:limit]
    if as_json:
        return print_json({"records": len(found), "latest": latest})
    if not found:
        return say("no dead letters")
    console().print(
        table(
            ("id", "from", "reason", "bytes>", "set aside at"),
            [(one.id, one.origin, one.reason, one.bytes, one.set_aside_at) for one in latest],
        )
    )
    reasons = Counter(one.reason for one in found).most_common(10)
    console().print(table(("records>", "reason"), [(count, why) for why, count in reasons]))
    return say(f"{len(found):,} dead letters; read one: sluice dead show ID; try again: sluice dead replay ID")


@app.command()
def show(letter: Annotated[str, typer.Argument(help="As sluice dead list shows it.", metavar="ID")]) -> None:
    """Print a dead letter's own bytes, as they were published. They may hold addresses.

    Example: [cyan]sluice dead show 17[/]
    """
    record = _read(letter)
    typer.echo(record.value or b"", nl=False)


@app.command()
def replay(
    letters: Annotated[list[str] | None, typer.Argument(help="From sluice dead list.", metavar="ID...")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that match --reason and --from.")] = False,
    reason: Matching = None,
    origin: FromTopic = None,
    as_json: AsJson = False,
) -> None:
    """Publish dead letters again to the topics that they came from, their bytes and headers as they were.

    They stay in mail.dead until its retention ends: what is replayed twice is handled twice. Held mails are left
    alone, since somebody has to decide on each: sluice mail release.

    Example: [cyan]sluice dead replay --all --reason "no such tenant"[/]
    """
    if bool(letters) == every:
        raise WrongUsage("name the records to replay, or say --all")
    settings = load_settings()
    if letters:
        chosen: Iterable[Taken] = [_read(letter) for letter in letters]
        if held := [letter for letter, record in zip(letters, chosen, strict=True) if is_held(record)]:
            raise WrongUsage(
                f"{', '.join(held)}: held in doubt; sluice mail release sends it, sluice mail drop ends it"
            )
    else:
        found = _matching(parts.read_topic(settings, DEAD), reason, origin)
        chosen = (record for record in found if not is_held(record))
    partitions = parts.reach(settings)
    records = [_again(record, partitions) for record in chosen]
    count = parts.publish(settings, records)
    report({"replayed": count}, f"replayed {count:,}", as_json=as_json)


def _read(letter: str) -> Taken:
    match = _place.fullmatch(letter)
    if match is None:
        raise WrongUsage(f"{letter!r} is no id of a dead letter: see sluice dead list")
    record = parts.read_one(load_settings(), DEAD, int(match[1] or 0), int(match[2]))
    if record is None or is_note(record):
        raise SluiceError(f"there is no dead letter {letter} (any more): see sluice dead list")
    return record


def _again(record: Taken, partitions: Mapping[str, int]) -> Record:
    """The record as it was, for where it was: lanes, ledgers and idempotency keys live in partitions."""
    topic, _, rest = _header(record, ORIGIN).partition(":")
    if topic not in partitions:
        raise SluiceError(f"dead letter {record.offset} came from topic {topic or '(not named)'}, which does not exist")
    number = rest.partition(":")[0]
    partition = int(number) if number.isdigit() and int(number) < partitions[topic] else None
    return replay_record(record, topic, partition)


def _matching(records: Iterable[Taken], reason: str | None, origin: str | None) -> Iterator[Taken]:
    for record in records:
        if is_note(record):
            continue
        if origin is not None and _header(record, ORIGIN).partition(":")[0] != origin:
            continue
        if reason is None or reason.casefold() in _header(record, REASON).casefold():
            yield record


def _letter(record: Taken) -> Letter:
    where = f"{record.partition}:{record.offset}" if record.partition else str(record.offset)
    at = moment(record.stored_at).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Letter(where, _header(record, ORIGIN), _header(record, REASON), len(record.value or b""), at)


def _header(record: Taken, name: str) -> str:
    found: Any = next((value for key, value in record.headers if key == name), b"")
    return bytes(found).decode("utf-8", "replace")
