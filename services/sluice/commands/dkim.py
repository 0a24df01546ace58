"""``sluice dkim``: keys that mail is signed with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sluice.commands.output import AsJson, print_json, say
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Generate DKIM keys and their DNS records.")


@app.callback()
def group() -> None:
    """Keeps ``generate`` a subcommand of its own."""


@app.command()
def generate(
    domain: Annotated[str, typer.Option("--domain", "-d", help="The domain to sign for.")],
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Named in what to do next.")] = None,
    selector: Annotated[
        str | None,
        typer.Option("--selector", help="Keys are SELECTOR-rsa and SELECTOR-ed25519; default: sYYYYMM."),
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Key folder; default SLUICE_DKIM_KEYS_DIR.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an RSA-2048 and an Ed25519 key; print the DNS records and what to put into the tenant.

    Private keys are written to FOLDER/DOMAIN/SELECTOR.pem, readable by you only, and nowhere else.

    Example: [cyan]sluice dkim generate --domain acme.example --tenant acme --keys keys[/]
    """
    name = selector or f"s{datetime.now(UTC):%Y%m}"
    made = parts.generate_dkim_keys(
        load_settings(), domain, folder=keys, rsa_selector=f"{name}-rsa", ed25519_selector=f"{name}-ed25519"
    )
    signing = [msgspec.to_builtins(one.key) for one in made]
    if as_json:
        return print_json(
            {
                "signing": signing,
                "records": [{"name": one.record_name, "type": "TXT", "value": one.record_value} for one in made],
                "files": [str(one.path) for one in made],
            }
        )
    say("1. Publish these records in DNS:\n")
    for one in made:
        say(f"   {one.zone_line()}\n")
    whose = tenant or "TENANT"
    say(f"2. When they are visible, add to tenant {whose} (sluice tenant show {whose}, then sluice tenant push):\n")
    say(f'   "signing": {msgspec.json.encode(signing).decode()}\n')
    say("3. Give every compose service these files, below SLUICE_DKIM_KEYS_DIR:\n")
    return say("\n".join(f"   {one.path}" for one in made))
