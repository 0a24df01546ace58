"""``sluice mail``: everything that happened to a mail, and what to do with those that are held in doubt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sluice.commands import held
from sluice.commands.conversation import conversations
from sluice.commands.following import follow
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.commands.timeline import heading, timeline_table, what_next
from sluice.domain.errors import SluiceError
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.queries import Entry

SHOWN = 10
"""Mails of one event whose timelines are shown in full; of more, a list."""


class ShowByDefault(TyperGroup):
    """``sluice mail ID`` is ``sluice mail show ID``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's, the command's name put before what begins with none."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["show", *args])


app = typer.Typer(
    cls=ShowByDefault,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show everything that happened to a mail (sluice mail ID), and decide on mails that are held in doubt.",
)
app.command(name="held")(held.held)
app.command(name="release")(held.release)
app.command(name="drop")(held.drop)


@app.command(name="show")
def mail(
    message_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="As sluice send printed it, or ID.0, ID.1 for one recipient's; or a Message-ID; or a recipient's "
            "address, for the latest mails to it.",
        ),
    ],
    as_json: AsJson = False,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Print each step as it happens, until the mail has ended.")
    ] = False,
) -> None:
    """Show what happened to a mail: each step with its time, what was said to the server, and what comes next.

    An event with several recipients becomes the mails ID.0, ID.1 and so on; ID shows all of them.

    Example: [cyan]sluice mail 0198f3a0-5c00-7000-8000-000000000002[/]

    Example: [cyan]sluice mail jo@mail.example --follow[/]
    """
    if following:
        return follow(lambda: known(message_id), as_json=as_json)
    found = timelines(message_id)
    now = datetime.now(UTC)
    if as_json:
        return print_json(
            [
                {
                    "message_id": name,
                    "next": what_next(entries, now),
                    "timeline": entries,
                }
                for name, entries in found.items()
            ]
        )
    if len(found) > (1 if "@" in message_id else SHOWN):
        rows = [(name, e[-1].event_type, e[-1].site, e[-1].event_time, what_next(e, now)) for name, e in found.items()]
        console().print(table(("mail", "last", "site", "at", "next"), rows))
        return say(f"{len(found)} mails; one of them: sluice mail {next(iter(found))}")
    for name, entries in found.items():
        say(heading(name, entries))
        console().print(timeline_table(entries), *conversations(entries))
        say(f"{what_next(entries, now)}\n")
    return None


def timelines(message_id: str) -> dict[str, list[Entry]]:
    """The timelines of the mails that are meant; raises :class:`SluiceError` when nothing is known of any."""
    found = known(message_id)
    if not found:
        raise SluiceError(
            f"nothing is known of {message_id}: outcomes come a second or two after the event. If it stays so, see "
            "sluice status (lag of compose and record) and sluice dead list"
        )
    return found


def known(subject: str) -> dict[str, list[Entry]]:
    """The timelines of a mail, of all mails of an event, of that with a Message-ID, or of the latest to an address."""
    settings = load_settings()
    with parts.queries(settings) as queries:
        own = queries.timeline(subject)
        found = {subject: own} if own else {}
        found |= {name: queries.timeline(name) for name in parts.mails_of(settings, subject)}
        if not found and "@" in subject:
            found = {name: queries.timeline(name) for name in parts.mails_meant(settings, subject, SHOWN)}
    return {name: entries for name, entries in found.items() if entries}
