"""``sluice suppress``: addresses that a tenant must not mail."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment
from sluice.commands.output import AsJson, console, print_json, report, say, table
from sluice.commands.suppression_files import FIELDS, read_suppressions
from sluice.domain.addresses import parse_address
from sluice.domain.errors import Refused, SluiceError
from sluice.domain.events import Stream
from sluice.domain.reference import Suppression, suppression_key
from sluice.domain.topics import SUPPRESSIONS
from sluice.ports.bus import Record
from sluice.ports.records import suppression_record
from sluice.runtime import console as parts
from sluice.runtime.config import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Add, remove, list, import and export addresses that must not be mailed.")

Emails = Annotated[list[str], typer.Argument(help="Addresses.", metavar="EMAIL...")]
ForTenant = Annotated[str, typer.Option("--tenant", "-t", help="Whose suppressions.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's.")]
OfStream = Annotated[Stream | None, typer.Option("--stream", help="Only mail of this stream; all mail when absent.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; shown in the outcome of what is not sent.")]
Expires = Annotated[str | None, typer.Option("--expires", help="Until when: a moment, or 30d from now. Default: ever.")]


@app.command()
def add(
    emails: Emails,
    tenant: ForTenant,
    reason: Reason = "added by hand",
    stream: OfStream = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Suppress addresses.

    Example: [cyan]sluice suppress add jo@example.com --tenant acme --reason complained --expires 365d[/]
    """
    now = datetime.now(UTC)
    until = parse_moment(expires, "--expires", now) if expires else None
    _store(
        load_settings(),
        [
            Suppression(
                tenant_id=tenant, email=_address(email), reason=reason, created_at=now, stream=stream, expires_at=until
            )
            for email in emails
        ],
        as_json,
    )


@app.command()
def remove(emails: Emails, tenant: ForTenant, stream: OfStream = None, as_json: AsJson = False) -> None:
    """Let addresses be mailed again. Without --stream this removes the suppression of all mail, not those of streams.

    Example: [cyan]sluice suppress remove jo@example.com --tenant acme[/]
    """
    settings = load_settings()
    keys = [suppression_key(tenant, stream, _address(email)) for email in emails]
    with parts.catalogue(settings) as known:
        there = [key for key in keys if key in known.suppressions]
    if missing := len(keys) - len(there):
        scope = f"in stream {stream}" if stream else "for all mail; see sluice suppress list for those of a stream"
        raise SluiceError(f"{missing} of {len(keys)} addresses are not suppressed {scope}; nothing was removed")
    count = parts.publish(settings, [Record(SUPPRESSIONS, None, key.encode()) for key in keys])
    report({"removed": count}, f"removed {count:,}", as_json=as_json)


@app.command(name="list")
def list_(
    tenant: OfTenant = None,
    email: Annotated[str | None, typer.Option("--email", help="Only this address.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows shown.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List suppressions, the latest first.

    Example: [cyan]sluice suppress list --tenant acme[/]
    """
    found = _read(load_settings(), tenant, email)
    found.sort(key=lambda entry: entry.created_at, reverse=True)
    if as_json:
        return print_json(found[:limit])
    rows = [(e.tenant_id, e.email, e.stream or "all", e.reason, e.created_at, e.expires_at) for e in found[:limit]]
    console().print(table(("tenant", "address", "mail", "reason", "since", "until"), rows))
    if len(found) > limit:
        say(f"{len(found) - limit:,} more: --limit, or sluice suppress export")
    return None


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV with a header, JSON Lines, or one address a line; - for stdin.")],
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="For rows that name no tenant.")] = None,
    reason: Reason = "imported",
    stream: OfStream = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Suppress every address of a file.

    Columns: email; and if wanted tenant_id, reason, stream, created_at, expires_at.
    Nothing is stored when a row is wrong.

    Example: [cyan]sluice suppress import unsubscribed.csv --tenant acme --stream broadcast[/]
    """
    now = datetime.now(UTC)
    until = parse_moment(expires, "--expires", now) if expires else None
    found = read_suppressions(file, tenant=tenant, reason=reason, stream=stream, expires_at=until, now=now)
    _store(load_settings(), found, as_json)


@app.command()
def export(
    tenant: OfTenant = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of JSON Lines.")] = False,
) -> None:
    """Print every suppression, as JSON Lines or CSV that import takes.

    Example: [cyan]sluice suppress export --tenant acme --csv > suppressed.csv[/]
    """
    found = _read(load_settings(), tenant, None)
    if not as_csv:
        sys.stdout.write(msgspec.json.Encoder().encode_lines(found).decode())
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for entry in found:
        plain = msgspec.to_builtins(entry)
        writer.writerow(["" if plain[name] is None else plain[name] for name in FIELDS])


def _store(settings: Settings, entries: Iterable[Suppression], as_json: bool) -> None:
    parts.require(settings, SUPPRESSIONS)
    count = parts.publish(settings, [suppression_record(entry) for entry in entries])
    report({"suppressed": count}, f"suppressed {count:,}", as_json=as_json)


def _read(settings: Settings, tenant: str | None, email: str | None) -> list[Suppression]:
    wanted = email.casefold() if email else None
    with parts.catalogue(settings) as known:
        return [
            entry
            for entry in known.suppressions.values()
            if (tenant is None or entry.tenant_id == tenant) and (wanted is None or entry.email.casefold() == wanted)
        ]


def _address(text: str) -> str:
    try:
        return parse_address(text, "EMAIL").addr_spec
    except Refused as error:
        raise WrongUsage(f"{text}: {error.reason}") from error
