"""Sending reports of TLS: each to each place once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sluice.client import Client, NotPublished, Refused
from sluice.domain.errors import SluiceError
from sluice.domain.tls_report import Report, Submitter, build_report, encode_report, report_mail, totals
from sluice.domain.tlsrpt_record import Endpoint, MailEndpoint
from sluice.ports.resolver import LookupFailed
from sluice.runtime import console as parts
from sluice.runtime import console_tls_reports as reporting
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.tls_reports import TlsReports

State = Literal["sent", "sent before", "to be sent", "failed", "not asked for"]


class Told(msgspec.Struct, frozen=True):
    """What became of one report to one place. ``message_id`` is the mail's; ``problem`` says why it failed."""

    domain: str
    endpoint: str
    state: State
    report_id: str = ""
    message_id: str = ""
    problem: str = ""


class Job(msgspec.Struct, frozen=True):
    """What is to be sent. ``again`` marks a repeat that is wanted, so that it is not taken for one that is not."""

    settings: Settings
    submitter: Submitter
    sender: str
    day: date
    dry_run: bool = False
    again: str = ""


def send_reports(job: Job, store: TlsReports, domains: Sequence[str]) -> Iterator[Told]:
    """Send what domains ask for and do not have yet. What fails is told, and does not hold up the others.

    A report is noted as sent once Kafka, or the domain's server, has it. A mail that was stored and not noted is stored
    again by the next run, under the same idempotency key: compose takes it for the repeat that it is.
    """
    with _client(job.settings) as client:
        for domain, places in reporting.places(job.settings, domains).items():
            if isinstance(places, LookupFailed):
                yield Told(domain, "", "failed", problem=f"DNS: {places.reason}")
            elif not places:
                yield Told(domain, "", "not asked for")
            else:
                yield from _send_domain(job, store, client, domain, places)


def _send_domain(
    job: Job, store: TlsReports, client: Client, domain: str, places: Sequence[Endpoint]
) -> Iterator[Told]:
    counted = store.counted(job.day, domain)
    if not counted:
        yield Told(domain, "", "failed", problem=f"no TLS session with it is known of {job.day.isoformat()}")
        return
    report = build_report(job.submitter, job.day, domain, counted)
    before = set() if job.again else set(store.sent(job.day, domain))
    for endpoint in places:
        told = Told(domain, str(endpoint), "to be sent" if job.dry_run else "sent", report.report_id)
        if str(endpoint) in before:
            told = msgspec.structs.replace(told, state="sent before")
        elif not job.dry_run:
            told = _send(job, client, report, endpoint, told)
            if told.state == "sent":
                _note(job, store, report, told)
        yield told


def _send(job: Job, client: Client, report: Report, endpoint: Endpoint, told: Told) -> Told:
    try:
        if isinstance(endpoint, MailEndpoint):
            return msgspec.structs.replace(told, message_id=_mail(job, client, report, told.domain, endpoint.address))
        reporting.post(job.settings, endpoint.url, encode_report(report))
    except Refused as error:
        return msgspec.structs.replace(told, state="failed", problem=f"{error.field}: {error.reason}")
    except (SluiceError, NotPublished) as error:
        return msgspec.structs.replace(told, state="failed", problem=str(error))
    return told


def _mail(job: Job, client: Client, report: Report, domain: str, address: str) -> str:
    tenant_id = job.settings.tls_report_tenant
    mail = report_mail(report, job.submitter, job.day, domain, tenant_id=tenant_id, sender=job.sender, to=address)
    event: dict[str, Any] = msgspec.to_builtins(mail)
    if job.again:
        event["idempotency_key"] += f"/{job.again}"
    return client.send(event, timeout=30.0).message_id


def _note(job: Job, store: TlsReports, report: Report, told: Told) -> None:
    from sluice.adapters.clickhouse.tls_reports import Sent

    succeeded, failed = totals(report.policies)
    sessions = succeeded + failed
    store.note([Sent(job.day, told.domain, told.endpoint, told.report_id, told.message_id, sessions, failed)])


def _client(settings: Settings) -> Client:
    options = parts.kafka_options(settings)
    # The SDK hands librdkafka's log to Python's, which is silent here, and knows no options with an underscore.
    del options["log_level"]
    return Client(options.pop("bootstrap.servers"), source="sluice-tls-reports", **options)
