"""``sluice outcomes``: outcome events as JSON lines, straight from Kafka."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, get_args

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment
from sluice.domain.events import Priority
from sluice.domain.outcome import OutcomeType
from sluice.runtime import console_watch
from sluice.runtime.config import load_settings

TYPES = get_args(OutcomeType)


class Wanted(msgspec.Struct, frozen=True):
    """Which outcomes are printed; what is empty or None takes all."""

    types: frozenset[str] = frozenset()
    site: str | None = None
    tenant: str | None = None
    priority: str | None = None
    campaign: str | None = None

    def line(self, value: bytes, *, recipients: bool) -> str | None:
        """The event as a line of JSON; None when it is not wanted, or is none.

        Without ``recipients`` the address is left out, and so are the reply's words and the reason, which may quote it.
        """
        try:
            event = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not isinstance(event, dict) or not self._takes(event):
            return None
        if not recipients:
            event = {name: held for name, held in event.items() if name not in ("recipient", "reason", "conversation")}
            if isinstance(event.get("smtp"), dict):
                event["smtp"] = {name: held for name, held in event["smtp"].items() if name != "text"}
        return msgspec.json.encode(event).decode()

    def _takes(self, event: dict[str, object]) -> bool:
        chosen = (
            (self.site, "site"),
            (self.tenant, "tenant_id"),
            (self.priority, "priority"),
            (self.campaign, "campaign_id"),
        )
        return (not self.types or event.get("event_type") in self.types) and all(
            value is None or event.get(name) == value for value, name in chosen
        )


def outcomes(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until ctrl-c.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="A moment, or so much ago: 15m, 2h. Default: now.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type of outcome; may be repeated.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only this site's.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's.")] = None,
    priority: Annotated[Priority | None, typer.Option("--priority", "-p", help="Only of this priority.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", help="Only of this campaign.")] = None,
    recipients: Annotated[
        bool, typer.Option("--recipients", help="With addresses, and the replies' words, which may quote them.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so long.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many.")] = None,
) -> None:
    """Print outcome events as JSON lines, as they are written to mail.outcome. ClickHouse is not asked.

    Without --follow, those that are there since --since. Several partitions are read side by side: events of one mail
    are in order, those of different mails nearly. A Kafka that goes away is waited for.

    Example: [cyan]sluice outcomes --follow --type bounced --type deferred --tenant acme[/]
    """
    if unknown := set(kind or ()) - set(TYPES):
        raise WrongUsage(f"--type {', '.join(sorted(unknown))}: the types are {', '.join(TYPES)}")
    if not follow and since is None:
        raise WrongUsage("nothing to print: give --follow, or --since 15m")
    wanted = Wanted(frozenset(kind or ()), site, tenant, priority, campaign)
    settings = load_settings()
    now = datetime.now(UTC)
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    tail = console_watch.outcome_tail(settings, _ago(since, now).timestamp())
    left = limit if limit is not None else sys.maxsize
    try:
        while left and time.monotonic() < ends and (follow or not tail.caught_up):
            for record in tail.poll(0.2):
                line = None if record.checkpoint else wanted.line(record.value, recipients=recipients)
                if line is not None and left:
                    sys.stdout.write(line + "\n")
                    left -= 1
            sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        return
    finally:
        tail.close()


def _ago(text: str | None, now: datetime) -> datetime:
    """``15m`` means that long ago; a moment is itself."""
    moment = now if text is None else parse_moment(text, "--since", now)
    return moment if moment <= now else now - (moment - now)
