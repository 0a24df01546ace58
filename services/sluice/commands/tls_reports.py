"""``sluice tls-reports``: what domains are told of the TLS of mail to them (RFC 8460)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.commands.failures import EXIT_FAILED, WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.domain.addresses import domain_to_ascii
from sluice.domain.errors import SluiceError
from sluice.domain.tls_report import build_report
from sluice.domain.topics import SEND
from sluice.runtime import console as parts
from sluice.runtime import console_tls_reports as reporting
from sluice.runtime.config import load_settings

if TYPE_CHECKING:
    from sluice.commands.tls_reports_send import Told

app = typer.Typer(no_args_is_help=True, help="Show and send reports of TLS to domains.")

Day = Annotated[str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="In UTC. Default: yesterday.")]


@app.command("list")
def list_(day: Day = None, as_json: AsJson = False) -> None:
    """List the domains that mail went to on a day, those with most failures first.

    Example: [cyan]sluice tls-reports list --day 2026-05-04[/]
    """
    chosen = _day(day)
    with reporting.store(load_settings()) as store:
        found = store.reportable(chosen)
    if as_json:
        return print_json(found)
    rows = [(one.domain, one.sessions, one.failures, one.sent) for one in found]
    title = f"TLS sessions on {chosen.isoformat()} (UTC)"
    return console().print(table(("domain", "sessions>", "failed>", "places told>"), rows, title=title))


@app.command()
def show(domain: Annotated[str, typer.Argument(help="The recipients' domain.")], day: Day = None) -> None:
    """Print a domain's report as it would be sent, uncompressed.

    Example: [cyan]sluice tls-reports show example.com[/]
    """
    settings, chosen, name = load_settings(), _day(day), _domain(domain)
    submitter, _ = reporting.submitter(settings)
    with reporting.store(settings) as store:
        counted = store.counted(chosen, name)
    if not counted:
        raise SluiceError(f"no TLS session with {name} is known of {chosen.isoformat()}")
    print_json(build_report(submitter, chosen, name, counted))


@app.command()
def send(
    domains: Annotated[list[str] | None, typer.Argument(help="Only these; absent: all with sessions.")] = None,
    day: Day = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent where, and send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also where it was sent before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a day's reports to all domains that ask for them, each to each place once; safe to repeat.

    Exit code 1 when one could not be sent: run it again later.

    Example: [cyan]sluice tls-reports send[/]
    """
    from sluice.commands.tls_reports_send import Job, send_reports

    settings, chosen, now = load_settings(), _day(day), datetime.now(UTC)
    if chosen >= now.date():
        raise WrongUsage(f"--day {chosen.isoformat()} is not over yet (in UTC): a report is of a whole day")
    wanted = list(dict.fromkeys(_domain(each) for each in domains or ()))
    submitter, sender = reporting.submitter(settings)
    parts.require(settings, *SEND.values())
    repeat = now.isoformat(timespec="seconds") if again else ""
    job = Job(settings, submitter, sender, chosen, dry_run=dry_run, again=repeat)
    with reporting.store(settings) as store:
        told = list(send_reports(job, store, wanted or [one.domain for one in store.reportable(chosen)]))
    if as_json:
        print_json(told)
    else:
        _show(told)
    if any(one.state == "failed" for one in told):
        raise typer.Exit(EXIT_FAILED)


def _show(told: Sequence[Told]) -> None:
    rows = [(one.domain, one.endpoint, one.state, one.problem or one.message_id) for one in told if one.endpoint]
    rows += [(one.domain, "", one.state, one.problem) for one in told if not one.endpoint and one.problem]
    if rows:
        console().print(table(("domain", "place", "state", "mail, or problem"), rows))
    silent = sum(one.state == "not asked for" for one in told)
    say(f"{sum(one.state == 'sent' for one in told)} sent; {silent} domains ask for no reports")


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date() - timedelta(days=1)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise WrongUsage(f"--day: {text!r} is no day: write 2026-05-04") from error


def _domain(text: str) -> str:
    name, reason = domain_to_ascii(text.strip().rstrip("."))
    if not name:
        raise WrongUsage(f"{text!r} is no domain: {reason}")
    return name
