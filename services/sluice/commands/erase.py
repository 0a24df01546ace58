"""``sluice erase ADDRESS``: a person's right to be forgotten."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table, timestamp
from sluice.domain.addresses import parse_address
from sluice.domain.conclusion import Recorder
from sluice.domain.errors import Refused
from sluice.domain.reference import profile_key, suppression_key
from sluice.domain.topics import DEAD, OUTCOME, PROFILES, READY, SEND, SUPPRESSIONS, WHEEL, topics
from sluice.ports.bus import Record
from sluice.runtime import console as parts
from sluice.runtime import console_analytics as analytics
from sluice.runtime.config import Settings, load_settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.erasure import Traces

_COMPACTED = timedelta(days=2)
"""A day until Kafka has to begin (topics apply says so to it), and one to do it."""


class Left(msgspec.Struct, frozen=True):
    """What is not erased now: where, and until when at the latest. None: until somebody removes it."""

    where: str
    what: str
    until: datetime | None


class Found(msgspec.Struct, frozen=True):
    """What there is of a person. ``profiles`` and ``suppressions`` are keys of records in reference topics."""

    traces: Traces
    profiles: list[str]
    suppressions: list[str]


def erase(
    address: Annotated[str, typer.Argument(help="The person's mail address.")],
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only what this tenant has of them.")] = None,
    suppressions: Annotated[
        bool, typer.Option("--suppressions", help="Their suppressions as well: they may then be mailed again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person from ClickHouse and from reference data, and say what else holds their address until when.

    Outcomes stay, so that counts do; what says whom they concern is emptied. Suppressions are kept, since they are what
    keeps the person from being mailed again.

    Example: [cyan]sluice erase jo@example.com --dry-run[/]
    """
    settings = load_settings()
    try:
        known = parse_address(address, "ADDRESS").addr_spec
    except Refused as error:
        raise WrongUsage(f"this is no address: {error.reason}") from error
    parts.require(settings, PROFILES, SUPPRESSIONS)
    with analytics.erasure(settings) as store:
        recorder = Recorder("", settings.hash_key.get_secret_value().encode())
        person = analytics.person(recorder.hashed(known), known.casefold(), tenant)
        found = Found(store.find(person), *_reference(settings, known, tenant))
        left = _left(settings, found, kept=not suppressions)
        if not as_json:
            _show(found, left, suppressions=suppressions)
        if not dry_run:
            _agreed(yes)
            keys = [(PROFILES, key) for key in found.profiles]
            keys += [(SUPPRESSIONS, key) for key in found.suppressions if suppressions]
            parts.publish(settings, [Record(topic, None, key.encode()) for topic, key in keys])
            store.erase(person, found.traces)
            store.erase_reference(person, suppressions=suppressions)
    if as_json:
        print_json(_told(found, left, erased=not dry_run, suppressions=suppressions))
    else:
        say("nothing was changed" if dry_run else "erased")


def _reference(settings: Settings, address: str, tenant: str | None) -> tuple[list[str], list[str]]:
    """Keys of the profiles and of the suppressions of an address."""
    wanted = address.casefold()
    with parts.catalogue(settings, (PROFILES, SUPPRESSIONS)) as known:
        profiles = [
            profile_key(entry.tenant_id, entry.email)
            for entry in known.profiles.values()
            if entry.email.casefold() == wanted and tenant in (None, entry.tenant_id)
        ]
        suppressions = [
            suppression_key(entry.tenant_id, entry.stream, entry.email)
            for entry in known.suppressions.values()
            if entry.email.casefold() == wanted and tenant in (None, entry.tenant_id)
        ]
    return sorted(profiles), sorted(suppressions)


def _left(settings: Settings, found: Found, *, kept: bool) -> list[Left]:
    now = datetime.now(UTC)
    kept_ms = {spec.name: spec.retention_ms for spec in topics(parts.layout(settings))}
    what = {
        "mail.send.*": ("events to them", SEND.values()),
        "mail.ready.*": ("mails to them, with their content", READY.values()),
        "mail.wheel.*": ("mails to them that wait", WHEEL.values()),
        OUTCOME: ("what became of these mails", (OUTCOME,)),
        DEAD: ("records that could not be handled", (DEAD,)),
    }
    left = [
        Left(name, meaning, now + timedelta(milliseconds=max(kept_ms[topic] for topic in of)))
        for name, (meaning, of) in what.items()
    ]
    left.append(Left("ClickHouse, files", "former versions of the rows, no longer read", now + timedelta(minutes=10)))
    left.append(Left("replies_per_day", "patterns of replies, should one quote a name", now + timedelta(days=90)))
    domains = "their mail domain, among the TLS sessions of all mail to it"
    left.append(Left("tls_sessions_per_day", domains, now + timedelta(days=60)))
    if found.profiles or (found.suppressions and not kept):
        left.append(Left("ref.*", "former records, until Kafka compacts the topics", now + _COMPACTED))
    if found.suppressions and kept:
        left.append(Left(SUPPRESSIONS, f"{len(found.suppressions)} suppressions, kept on purpose", None))
    left.append(Left("backups", "of Kafka and ClickHouse, as you keep them", None))
    return left


def _show(found: Found, left: list[Left], *, suppressions: bool) -> None:
    traces = found.traces
    rows = [
        ("ClickHouse recipients", traces.recipients, "deleted"),
        ("ClickHouse outcomes", traces.outcomes, "emptied of what says whom they concern"),
        (PROFILES, len(found.profiles), "removed"),
        (SUPPRESSIONS, len(found.suppressions), "removed" if suppressions else "kept; --suppressions removes them"),
    ]
    console().print(table(("of them in", "records>", "which are"), rows, title=f"{len(traces.mails):,} mails to them"))
    expiring = [(one.where, one.what, one.until or "until removed") for one in left]
    console().print(table(("also in", "what", "gone by"), expiring))
    if traces.waiting:
        say(
            f"{traces.waiting:,} of these mails are still under way: what becomes of them will name the person again. "
            "Suppress the address, and erase again when they have come to an end"
        )


def _agreed(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage("nobody is there to be asked: give --yes, or --dry-run")
    typer.confirm("This cannot be undone. Erase?", abort=True)


def _told(found: Found, left: list[Left], *, erased: bool, suppressions: bool) -> dict[str, Any]:
    return {
        "erased": erased,
        "mails": len(found.traces.mails),
        "outcomes": found.traces.outcomes,
        "recipients": found.traces.recipients,
        "waiting": found.traces.waiting,
        "profiles": len(found.profiles),
        "suppressions": len(found.suppressions),
        "suppressions_kept": not suppressions,
        "left": [
            {"where": one.where, "what": one.what, "until": timestamp(one.until) if one.until else None} for one in left
        ],
    }
