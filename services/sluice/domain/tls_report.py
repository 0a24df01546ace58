"""The report of one day's TLS to one domain, as JSON and as a mail (RFC 8460 sections 4 and 5)."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

import msgspec

from sluice.domain.events import Attachment, Mailbox, Recipient
from sluice.domain.tls_sessions import PolicyType

MEDIA_TYPE = "application/tlsrpt+gzip"
MOST_DETAILS = 500
"""Kinds of failure that a report tells apart for one policy, the most frequent; the sums are of all."""


class Submitter(msgspec.Struct, frozen=True):
    """Who reports. ``domain`` is that of the address that reports are sent from."""

    organisation: str
    contact: str
    domain: str


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions of a day that are alike, as stored; the fields of :class:`sluice.domain.tls_sessions.TlsSession`.

    ``result`` is empty for successes.
    """

    policy_type: PolicyType
    policy: list[str] = []
    mx: list[str] = []
    result: str = ""
    sending_ip: str = ""
    mx_host: str = ""
    receiving_ip: str = ""
    reason: str = ""
    sessions: int


class DateRange(msgspec.Struct, frozen=True, rename="kebab"):
    """A whole day in UTC, RFC 3339."""

    start_datetime: str
    end_datetime: str


class AppliedPolicy(msgspec.Struct, frozen=True, rename="kebab", kw_only=True, omit_defaults=True):
    """Section 4.4, ``policy``; ``mx_host`` for MTA-STS only."""

    policy_type: PolicyType
    policy_string: list[str] = []
    policy_domain: str
    mx_host: list[str] = []


class Summary(msgspec.Struct, frozen=True, rename="kebab"):
    """Sessions."""

    total_successful_session_count: int
    total_failure_session_count: int


class FailureDetail(msgspec.Struct, frozen=True, rename="kebab", kw_only=True, omit_defaults=True):
    """Failed sessions that are alike."""

    result_type: str
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_ip: str = ""
    failed_session_count: int
    failure_reason_code: str = ""


class PolicyReport(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What came of the sessions under one policy."""

    policy: AppliedPolicy
    summary: Summary
    failure_details: list[FailureDetail] = []


class Report(msgspec.Struct, frozen=True, rename="kebab"):
    """The whole of section 4.4. Made by :func:`build_report`."""

    organization_name: str
    date_range: DateRange
    contact_info: str
    report_id: str
    policies: list[PolicyReport]


def report_id(submitter: Submitter, day: date, domain: str) -> str:
    """The same for the same organisation, day and domain; in the form of a Message-ID, as section 5.3 has it."""
    text = f"{submitter.organisation}\x1f{submitter.domain}\x1f{day.isoformat()}\x1f{domain}"
    return f"{day.isoformat()}.{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}@{submitter.domain}"


def build_report(submitter: Submitter, day: date, domain: str, counted: Iterable[Counted]) -> Report:
    """The report of ``day`` (UTC) to ``domain`` (A-label form). The same rows, in any order, make the same report."""
    rows = sorted(counted, key=_policy_key)
    policies = [_policy_report(domain, list(alike)) for _, alike in groupby(rows, _policy_key)]
    bounds = DateRange(f"{day.isoformat()}T00:00:00Z", f"{day.isoformat()}T23:59:59Z")
    return Report(submitter.organisation, bounds, submitter.contact, report_id(submitter, day, domain), policies)


def encode_report(report: Report) -> bytes:
    """Its JSON (I-JSON, RFC 7493), compressed by gzip; the same report gives the same bytes."""
    return gzip.compress(msgspec.json.encode(report), mtime=0)


def file_name(submitter: Submitter, day: date, domain: str) -> str:
    """As section 5.1 asks for: who, of whom, from when to when in seconds since the epoch."""
    begin = datetime.combine(day, time(), UTC)
    end = begin + timedelta(days=1, seconds=-1)
    return f"{submitter.domain}!{domain}!{int(begin.timestamp())}!{int(end.timestamp())}.json.gz"


class ReportMail(msgspec.Struct, frozen=True, omit_defaults=True, rename={"from_": "from"}):
    """The fields of a send event (:class:`sluice.domain.events.SendEvent`) that sends a report (section 5.3)."""

    tenant_id: str
    from_: Mailbox
    to: list[Recipient]
    subject: str
    text: str
    headers: dict[str, str]
    attachments: list[Attachment]
    idempotency_key: str
    tags: list[str]
    report_type: str


def report_mail(
    report: Report, submitter: Submitter, day: date, domain: str, *, tenant_id: str, sender: str, to: str
) -> ReportMail:
    """The mail of a report to one address; the same report to the same address has the same idempotency key."""
    name = report.report_id
    succeeded, failed = totals(report.policies)
    text = (
        f"This is an aggregate report of SMTP TLS sessions (RFC 8460) from {submitter.organisation}.\n\n"
        f"Domain: {domain}\nDay (UTC): {day.isoformat()}\nSessions with TLS: {succeeded}\n"
        f"Sessions that failed: {failed}\nReport-ID: {name}\nContact: {submitter.contact}\n"
    )
    to_hash = hashlib.blake2b(to.encode(), digest_size=8).hexdigest()
    return ReportMail(
        tenant_id=tenant_id,
        from_=Mailbox(sender),
        to=[Recipient(to)],
        subject=f"Report Domain: {domain} Submitter: {submitter.domain} Report-ID: <{name}>",
        text=text,
        headers={"TLS-Report-Domain": domain, "TLS-Report-Submitter": submitter.domain},
        attachments=[Attachment(file_name(submitter, day, domain), encode_report(report), MEDIA_TYPE)],
        idempotency_key=f"tlsrpt/{name}/{to_hash}",
        tags=["tls-report"],
        report_type="tlsrpt",
    )


def totals(policies: Sequence[PolicyReport]) -> tuple[int, int]:
    """Sessions that succeeded, and that failed, under all policies together."""
    succeeded = sum(policy.summary.total_successful_session_count for policy in policies)
    return succeeded, sum(policy.summary.total_failure_session_count for policy in policies)


def _policy_key(row: Counted) -> tuple[str, list[str], list[str]]:
    return row.policy_type, row.policy, row.mx


def _policy_report(domain: str, rows: list[Counted]) -> PolicyReport:
    first = rows[0]
    failures = [row for row in rows if row.result]
    failed = sum(row.sessions for row in failures)
    details = sorted(_details(failures), key=lambda d: (-d.failed_session_count, msgspec.structs.astuple(d)))
    return PolicyReport(
        AppliedPolicy(
            policy_type=first.policy_type, policy_string=first.policy, policy_domain=domain, mx_host=first.mx
        ),
        Summary(sum(row.sessions for row in rows) - failed, failed),
        details[:MOST_DETAILS],
    )


def _details(failures: list[Counted]) -> list[FailureDetail]:
    counts: dict[tuple[str, str, str, str, str], int] = {}
    for row in failures:
        key = (row.result, row.sending_ip, row.mx_host, row.receiving_ip, row.reason)
        counts[key] = counts.get(key, 0) + row.sessions
    return [
        FailureDetail(
            result_type=result,
            sending_mta_ip=sending,
            receiving_mx_hostname=host,
            receiving_ip=receiving,
            failed_session_count=count,
            failure_reason_code=reason,
        )
        for (result, sending, host, receiving, reason), count in counts.items()
    ]
