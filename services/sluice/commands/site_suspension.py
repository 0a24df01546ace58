"""``sluice sites suspend`` and ``resume``: an operator's word that every deliver worker follows within a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment
from sluice.commands.output import AsJson, duration, report, say, timestamp
from sluice.commands.site_facts import site_called
from sluice.commands.site_states import in_force
from sluice.domain.errors import RuleError, SluiceError
from sluice.domain.events import Identifier
from sluice.domain.reference import SiteControl
from sluice.domain.shaping import parse_duration
from sluice.domain.site import SiteRules
from sluice.domain.topics import SITES
from sluice.ports.bus import Record
from sluice.runtime import console as parts
from sluice.runtime import console_rules
from sluice.runtime.config import load_settings

SiteName = Annotated[
    str, typer.Argument(help="The site's name, as sluice sites list and explain show it.", metavar="SITE")
]


def suspend(
    site: SiteName,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; shown to whoever looks.")],
    lasting: Annotated[str | None, typer.Option("--for", help="How long: 30m, 2h, 1d. Default: until resumed.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Until when: a moment such as 2026-05-01T09:00Z.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send nothing to a site for a while. Every worker stops within a second; attempts under way end as they do.

    Its mails wait, and expire when their own time is over. Suspending it again replaces what was said before.

    Example: [cyan]sluice sites suspend google --for 2h --reason "postmaster asked us to"[/]
    """
    settings = load_settings()
    rules = console_rules.rules(settings).sites
    name = _storable(site, rules)
    now = datetime.now(UTC)
    if not reason.strip():
        raise WrongUsage("--reason: say why, for whoever finds the site suspended")
    control = SiteControl(
        site=name, reason=reason.strip(), by=parts.operator(), at=now, until=_end(lasting, until, now)
    )
    with parts.catalogue(settings, (SITES,)) as known:
        before = in_force(known.controls.get(name), now)
    parts.publish(settings, [Record(SITES, msgspec.json.encode(control), name.encode())])
    undo = f"sluice sites resume {name}"
    end = f"until {timestamp(control.until)}" if control.until else "until it is resumed"
    text = f"{name} is suspended {end}: within a second nothing new is sent to it. Undo: {undo}"
    report({"suspended": control, "replaced": before, "undo": undo}, text, as_json=as_json)
    if as_json:
        return
    if before is not None:
        say(f"This replaces: {said(before)}")
    if not any(group.site.name == name for group in rules.groups):
        say(f"No rule lists {name}: if it is a recipient's domain, sluice sites explain {name} tells its site.")


def resume(site: SiteName, as_json: AsJson = False) -> None:
    """Let a site have mail again, at once; pauses that workers had made themselves end too.

    Example: [cyan]sluice sites resume google[/]
    """
    from sluice.deliver.lane import LONGEST_PAUSE

    settings = load_settings()
    with parts.catalogue(settings, (SITES,)) as known:
        name, controls = site.strip().lower().rstrip("."), dict(known.controls)
    if name not in controls:
        # A word may stand on a name that the rules have given away since: look before refusing it.
        name = site_called(site, console_rules.rules(settings).sites)
    before = controls.get(name)
    if before is None:
        raise SluiceError(f"{name} is not suspended: sluice sites list shows those that are")
    parts.publish(settings, [Record(SITES, None, name.encode())])
    over = in_force(before, datetime.now(UTC)) is None
    text = f"{name} is resumed. It {'had been' if over else 'was'} {said(before)}"
    report({"resumed": before, "was_over": over}, text, as_json=as_json)
    if not as_json:
        say(f"Mails that wait for it come back within {duration(LONGEST_PAUSE * 1000)}; new ones are sent at once.")


def said(control: SiteControl) -> str:
    """A control in words: ``suspended since … by …, until …: reason``."""
    end = f", until {timestamp(control.until)}" if control.until else ", until resumed"
    return f"suspended since {timestamp(control.at)} by {control.by}{end}: {control.reason}"


def _storable(text: str, rules: SiteRules) -> str:
    name = site_called(text, rules)
    try:
        return msgspec.convert(name, Identifier)
    except msgspec.ValidationError as error:
        raise WrongUsage(
            f"SITE: {text!r} is no name of a site: at most 128 letters, digits, dots and dashes"
        ) from error


def _end(lasting: str | None, until: str | None, now: datetime) -> datetime | None:
    if lasting is not None and until is not None:
        raise WrongUsage("--for and --until exclude each other")
    if lasting is not None:
        try:
            end = now + timedelta(seconds=parse_duration(lasting))
        except (RuleError, OverflowError) as error:
            raise WrongUsage(f"--for: {lasting!r} is no duration: write 30m, 2h or 1d") from error
    elif until is not None:
        end = parse_moment(until, "--until", now)
    else:
        return None
    if end <= now:
        raise WrongUsage(f"{'--until' if lasting is None else '--for'}: {lasting or until} is over already")
    return end
