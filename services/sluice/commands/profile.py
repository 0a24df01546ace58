"""``sluice profile``: what is known of recipients."""

from __future__ import annotations

import msgspec
import typer

from sluice.commands.documents import Files, convert, read_documents, refuse
from sluice.commands.output import AsJson, report
from sluice.domain.addresses import parse_address
from sluice.domain.errors import Refused
from sluice.domain.reference import Profile, profile_key
from sluice.domain.topics import PROFILES
from sluice.ports.bus import Record
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Push what is known of recipients: variables, locale, time zone.")


@app.callback()
def group() -> None:
    """Keeps ``push`` a subcommand of its own."""


@app.command()
def push(files: Files, as_json: AsJson = False) -> None:
    """Store profiles; a profile replaces the one of the same tenant and address.

    Example: [cyan]sluice profile push profiles.jsonl[/]
    """
    given = convert(read_documents(files), Profile)
    profiles, problems = [], []
    for place, profile in given:
        try:
            # Compose looks a recipient up by the address in this form.
            address = parse_address(profile.email, "email").addr_spec
            profiles.append(msgspec.structs.replace(profile, email=address))
        except Refused as error:
            problems.append(f"{place}: {error}")
    refuse(problems)
    settings = load_settings()
    parts.require(settings, PROFILES)
    records = [
        Record(PROFILES, msgspec.json.encode(profile), profile_key(profile.tenant_id, profile.email).encode())
        for profile in profiles
    ]
    count = parts.publish(settings, records)
    report({"pushed": count}, f"pushed {count:,} profiles", as_json=as_json)
