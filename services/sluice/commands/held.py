"""``sluice mail held``, ``release``, ``drop``: mails of which nobody knows whether the receiving server took them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment
from sluice.commands.output import AsJson, console, duration, print_json, report, say, table
from sluice.domain.conclusion import Recorder
from sluice.domain.errors import SluiceError
from sluice.domain.outcome import Outcome, moment
from sluice.domain.site import lane_partition
from sluice.domain.topics import DEAD, OUTCOME, READY
from sluice.ports import held as letters
from sluice.ports.bus import Record
from sluice.ports.held import Decision, Held, still_held
from sluice.ports.records import outcome_record
from sluice.runtime import console as parts
from sluice.runtime.config import Settings, load_settings

Ids = Annotated[list[str] | None, typer.Argument(help="Mails, or events of which all held mails are meant.")]
Tenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's.")]
Site = Annotated[str | None, typer.Option("--site", "-s", help="Only those for this site.")]
Older = Annotated[str | None, typer.Option("--older-than", help="Only those held for longer: 30m, 2h, 7d.")]
Every = Annotated[bool, typer.Option("--all", help="All that are held.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which.")]
NAMED = 10


class Line(msgspec.Struct, frozen=True):
    """A held mail as it is listed."""

    id: str
    tenant: str
    site: str
    attempts: int
    held_since: datetime
    expires_at: datetime
    reason: str


def held(
    ids: Ids = None,
    tenant: Tenant = None,
    site: Site = None,
    older_than: Older = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows shown, the oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List mails that are held: their site may have taken them, and their sender wants no second copy.

    Example: [cyan]sluice mail held --tenant acme --older-than 1h[/]
    """
    found = _chosen(load_settings(), ids, tenant, site, older_than)
    lines = [_line(one) for one in found[:limit]]
    if as_json:
        return print_json({"held": len(found), "oldest": lines})
    if not found:
        return say("no mails are held")
    now = time.time()
    rows = [
        (line.id, line.tenant, line.site, duration((now - line.held_since.timestamp()) * 1000), line.reason)
        for line in lines
    ]
    console().print(table(("mail", "tenant", "site", "held for>", "why"), rows))
    return say(
        f"{len(found):,} held; send one after all: sluice mail release ID; end it: sluice mail drop ID --reason …"
    )


def release(
    ids: Ids = None,
    tenant: Tenant = None,
    site: Site = None,
    older_than: Older = None,
    every: Every = False,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; shown in the mail's timeline.")] = "by hand",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send held mails after all. Where the site had taken one, its recipient gets a second copy.

    Each goes back to its lane once, however often this is said.

    Example: [cyan]sluice mail release 0198f3a0-5c00-7000-8000-000000000002 --yes[/]
    """
    settings = load_settings()
    found = _to_decide(settings, "release", ids, tenant, site, older_than, every=every, yes=yes, dry_run=dry_run)
    if found and not dry_run:
        decision, recorder = Decision(parts.operator(), reason, time.time()), _recorder(settings)
        partitions = parts.reach(settings)
        made = [letters.release(one, decision, recorder, partitions[READY["normal"]]) for one in found]
        parts.publish(settings, [record for record, _ in made])
        _write_down(settings, found, [outcome for _, outcome in made], "released", partitions[OUTCOME])
    _tell(found, "released", dry_run=dry_run, as_json=as_json)


def drop(
    ids: Ids = None,
    tenant: Tenant = None,
    site: Site = None,
    older_than: Older = None,
    every: Every = False,
    reason: Annotated[str | None, typer.Option("--reason", "-r", help="Why; shown in the mail's timeline.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """End held mails for good: they are not sent, and their outcome says who decided so, and why.

    Example: [cyan]sluice mail drop --tenant acme --older-than 2d --reason "too late to matter"[/]
    """
    if not reason:
        raise WrongUsage("say why with --reason: it stands in the mails' timelines")
    settings = load_settings()
    found = _to_decide(settings, "drop", ids, tenant, site, older_than, every=every, yes=yes, dry_run=dry_run)
    if found and not dry_run:
        decision, recorder = Decision(parts.operator(), reason, time.time()), _recorder(settings)
        outcomes = [letters.drop(one, decision, recorder) for one in found]
        _write_down(settings, found, outcomes, "dropped", parts.reach(settings)[OUTCOME])
    _tell(found, "dropped", dry_run=dry_run, as_json=as_json)


def _write_down(
    settings: Settings, found: Iterable[Held], outcomes: Iterable[Outcome], what: letters.What, partitions: int
) -> None:
    """Outcomes first: with the note alone, a mail would be neither held nor ended."""
    records = [
        outcome_record(outcome, lane_partition(one.mail.envelope.lane, partitions))
        for one, outcome in zip(found, outcomes, strict=True)
    ]
    parts.publish(settings, records)
    notes: list[Record] = [letters.note(one, what) for one in found]
    parts.publish(settings, notes)


def _to_decide(
    settings: Settings,
    what: str,
    ids: list[str] | None,
    tenant: str | None,
    site: str | None,
    older_than: str | None,
    *,
    every: bool,
    yes: bool,
    dry_run: bool,
) -> list[Held]:
    if not (ids or tenant or site or older_than or every):
        raise WrongUsage(f"say which to {what}: by id, --tenant, --site, --older-than, or --all")
    found = _chosen(settings, ids, tenant, site, older_than)
    if ids and (missing := [name for name in ids if not any(_is(one, name) for one in found)]):
        raise SluiceError(f"{', '.join(missing)}: not held, or decided on already: see sluice mail ID")
    if found and not yes and not dry_run:
        for one in found[:NAMED]:
            typer.echo(
                f"  {one.mail.envelope.message_id}  {one.mail.envelope.tenant_id}  {one.mail.envelope.site}", err=True
            )
        if len(found) > NAMED:
            typer.echo(f"  and {len(found) - NAMED:,} more", err=True)
        typer.confirm(f"{what} {len(found):,} mails?", abort=True, err=True)
    return found


def _chosen(
    settings: Settings, ids: list[str] | None, tenant: str | None, site: str | None, older_than: str | None
) -> list[Held]:
    now = datetime.now(UTC)
    before = None
    if older_than is not None:
        # The option is an age; what is parsed lies ahead by as much.
        before = (now - (parse_moment(older_than, "--older-than", now) - now)).timestamp()
    return [
        one
        for one in still_held(parts.read_topic(settings, DEAD))
        if (not ids or any(_is(one, name) for name in ids))
        and (tenant is None or one.mail.envelope.tenant_id == tenant)
        and (site is None or one.mail.envelope.site == site)
        and (before is None or one.since < before)
    ]


def _is(one: Held, name: str) -> bool:
    message_id = one.mail.envelope.message_id
    return message_id == name or message_id.startswith(f"{name}.")


def _tell(found: list[Held], what: str, *, dry_run: bool, as_json: bool) -> None:
    names = [one.mail.envelope.message_id for one in found]
    data = {what: 0 if dry_run else len(found), "mails": names, "dry_run": dry_run}
    report(data, f"would be {what}: {len(found):,}" if dry_run else f"{what} {len(found):,}", as_json=as_json)
    if dry_run and not as_json:
        for name in names:
            say(f"  {name}")


def _line(one: Held) -> Line:
    envelope = one.mail.envelope
    return Line(
        envelope.message_id,
        envelope.tenant_id,
        envelope.site,
        one.mail.progress.attempt + 1,
        moment(one.since),
        moment(envelope.expires_at),
        one.reason,
    )


def _recorder(settings: Settings) -> Recorder:
    return Recorder("sluice mail", settings.hash_key.get_secret_value().encode())
