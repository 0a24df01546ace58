"""``sluice send``: one mail by options, or a stream of them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sluice.client import Client, Priority, Refused
from sluice.commands.compose_event import Given, compose_event
from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, print_json, say
from sluice.commands.send_stream import send_stream
from sluice.commands.variables import Variables, VariablesFile, read_variables
from sluice.domain.errors import SluiceError
from sluice.domain.events import Stream
from sluice.domain.topics import SEND
from sluice.runtime import console as parts
from sluice.runtime.config import Settings, load_settings

_content = partial(typer.Option, rich_help_panel="Content")
_when = partial(typer.Option, rich_help_panel="When and how")
_many = partial(typer.Option, rich_help_panel="Many mails")


def send(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Who sends.")] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="Address, or 'Name <address>'. Repeat.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="The tenant's own when absent.")
    ] = None,
    reply_to: Annotated[str | None, typer.Option("--reply-to", metavar="ADDRESS", help="Where answers go.")] = None,
    subject: Annotated[str | None, _content("--subject", "-s")] = None,
    text: Annotated[str | None, _content("--text", help="Text, or @FILE.")] = None,
    html: Annotated[str | None, _content("--html", help="HTML, or @FILE.")] = None,
    template: Annotated[
        str | None,
        _content("--template", help="ID or ID@VERSION, instead of the three above."),
    ] = None,
    locale: Annotated[str | None, _content("--locale", "-l", help="zh-CN, de.")] = None,
    var: Variables = None,
    variables: VariablesFile = None,
    attach: Annotated[list[Path] | None, _content("--attach", metavar="FILE", help="A file. Repeat.")] = None,
    header: Annotated[list[str] | None, _content("--header", "-H", metavar="NAME:VALUE", help="Repeat.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="A word to group by. Repeat.")] = None,
    priority: Annotated[
        Priority | None,
        _when("--priority", "-p", help="Default: normal; bulk for broadcast."),
    ] = None,
    stream: Annotated[Stream | None, _when("--stream")] = None,
    campaign: Annotated[str | None, _when("--campaign", help="Groups outcomes.")] = None,
    at: Annotated[str | None, _when("--at", help="Not before: a moment, or 30m, 2h.")] = None,
    expires: Annotated[str | None, _when("--expires", help="Not after: a moment, or 30m, 2d.")] = None,
    idempotency_key: Annotated[str | None, _when("--idempotency-key", help="Sent once, however often asked.")] = None,
    wait: Annotated[bool, _when("--wait", "-w", help="Wait for the outcome.")] = False,
    timeout: Annotated[float, _when("--timeout", min=1, help="Seconds for --wait.")] = 60.0,
    file: Annotated[str | None, _many("--file", "-f", help="JSON Lines of send events; - for stdin.")] = None,
    refused: Annotated[Path | None, _many("--refused", help="Write refused lines to this file.")] = None,
    keep_going: Annotated[bool, _many("--keep-going", help="Exit 0 although lines were refused.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send one mail, or every line of a file, and say what was refused and why.

    With --file, lines that are wrong are left out and all others are sent; exit code 1 then.
    With --wait, exit code 1 unless every mail was delivered.

    Example: [cyan]sluice send -t acme --to 'Jo <jo@mail.example>' -s Hello --text 'Hi Jo' --wait[/]

    Example: [cyan]sluice send --file events.jsonl --priority bulk[/]
    """
    now = datetime.now(UTC)
    given = Given(
        tenant=tenant, to=to or [], sender=from_, reply_to=reply_to, subject=subject, text=text, html=html,
        template=template, locale=locale, variables=read_variables(var, variables), attach=attach or [],
        headers=header or [], tags=tag or [], stream=stream, campaign=campaign, at=at, expires=expires,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    if file is not None:
        if given != Given(stream=stream):
            raise WrongUsage("--file takes whole events: of the other options only --priority goes with it")
        settings = load_settings()
        parts.require(settings, *SEND.values())
        with _client(settings) as client:
            code = send_stream(client, file, priority, keep_going=keep_going, refused=refused, as_json=as_json)
        raise typer.Exit(code)
    event = compose_event(given, now)
    settings = load_settings()
    parts.require(settings, *SEND.values())
    with _client(settings) as client:
        try:
            receipt = client.send(event, priority, timeout=30.0)
        except Refused as error:
            raise SluiceError(f"refused: {error.field}: {error.reason}") from error
    if not wait:
        return print_json(receipt) if as_json else say(f"{receipt.message_id} stored in {receipt.topic}")
    from sluice.commands.waiting import wait_for

    raise typer.Exit(wait_for(settings, receipt, len(given.to), timeout, as_json=as_json))


def _client(settings: Settings) -> Client:
    options = parts.kafka_options(settings)
    # The SDK hands librdkafka's log to Python's, which is silent here, and knows no options with an underscore.
    del options["log_level"]
    return Client(options.pop("bootstrap.servers"), source="sluice-send", **{"linger.ms": 20, **options})
