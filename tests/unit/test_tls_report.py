"""Reports of TLS in the shape of RFC 8460 section 4.4 and its appendix B, with values of our own."""

from __future__ import annotations

import gzip
import json
from datetime import date
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.events import decode_send
from sluice.domain.tls_report import (
    MOST_DETAILS,
    Counted,
    Submitter,
    build_report,
    encode_report,
    file_name,
    report_id,
    report_mail,
    totals,
)

US = Submitter("Sender Inc.", "tls@sender.example", "sender.example")
DAY = date(2026, 5, 4)
STS: dict[str, Any] = {
    "policy_type": "sts",
    "policy": ["version: STSv1", "mode: testing", "mx: *.receiver.example", "max_age: 86400"],
    "mx": ["*.receiver.example"],
}
PLACE = {"sending_ip": "192.0.2.1", "mx_host": "mx1.receiver.example", "receiving_ip": "198.51.100.2"}
ROWS = [
    Counted(**STS, sessions=5326),
    Counted(**STS, **PLACE, result="certificate-expired", reason="certificate has expired", sessions=100),
    Counted(**STS, **PLACE, result="starttls-not-supported", sessions=200),
    Counted(policy_type="no-policy-found", sessions=7),
]


def as_json(rows: list[Counted]) -> Any:
    return json.loads(gzip.decompress(encode_report(build_report(US, DAY, "receiver.example", rows))))


def test_a_report_has_the_shape_of_the_standard() -> None:
    assert as_json(ROWS) == {
        "organization-name": "Sender Inc.",
        "date-range": {"start-datetime": "2026-05-04T00:00:00Z", "end-datetime": "2026-05-04T23:59:59Z"},
        "contact-info": "tls@sender.example",
        "report-id": report_id(US, DAY, "receiver.example"),
        "policies": [
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "receiver.example"},
                "summary": {"total-successful-session-count": 7, "total-failure-session-count": 0},
            },
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": STS["policy"],
                    "policy-domain": "receiver.example",
                    "mx-host": ["*.receiver.example"],
                },
                "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 300},
                "failure-details": [
                    {
                        "result-type": "starttls-not-supported",
                        "sending-mta-ip": "192.0.2.1",
                        "receiving-mx-hostname": "mx1.receiver.example",
                        "receiving-ip": "198.51.100.2",
                        "failed-session-count": 200,
                    },
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "192.0.2.1",
                        "receiving-mx-hostname": "mx1.receiver.example",
                        "receiving-ip": "198.51.100.2",
                        "failed-session-count": 100,
                        "failure-reason-code": "certificate has expired",
                    },
                ],
            },
        ],
    }


def test_the_id_is_the_same_for_the_same_day_and_domain_and_no_other() -> None:
    known = report_id(US, DAY, "receiver.example")
    assert known == report_id(US, DAY, "receiver.example")
    others = {
        report_id(US, date(2026, 5, 5), "receiver.example"),
        report_id(US, DAY, "other.example"),
        report_id(msgspec.structs.replace(US, organisation="Another"), DAY, "receiver.example"),
    }
    assert len(others | {known}) == 4


def test_the_file_is_named_for_who_of_whom_and_when() -> None:
    assert file_name(US, DAY, "receiver.example") == "sender.example!receiver.example!1777852800!1777939199.json.gz"


def test_the_mail_is_a_send_event_that_names_its_report() -> None:
    report = build_report(US, DAY, "receiver.example", ROWS)
    made = report_mail(
        report, US, DAY, "receiver.example", tenant_id="us", sender="tls@sender.example", to="tls@receiver.example"
    )
    event = decode_send(msgspec.json.encode({"message_id": "m1", **msgspec.to_builtins(made, builtin_types=(bytes,))}))
    name = report_id(US, DAY, "receiver.example")
    assert event.subject == f"Report Domain: receiver.example Submitter: sender.example Report-ID: <{name}>"
    assert event.headers == {"TLS-Report-Domain": "receiver.example", "TLS-Report-Submitter": "sender.example"}
    assert event.report_type == "tlsrpt"
    assert event.attachments[0].content_type == "application/tlsrpt+gzip"
    assert json.loads(gzip.decompress(event.attachments[0].content))["report-id"] == name
    again = report_mail(
        report, US, DAY, "receiver.example", tenant_id="us", sender="tls@sender.example", to="other@receiver.example"
    )
    assert made.idempotency_key != again.idempotency_key


def test_kinds_of_failure_beyond_a_number_are_summed_but_not_told_apart() -> None:
    rows = [Counted(**STS, result="validation-failure", reason=f"{n}", sessions=n) for n in range(1, 1001)]
    (policy,) = as_json(rows)["policies"]
    assert policy["summary"]["total-failure-session-count"] == 500_500
    assert len(policy["failure-details"]) == MOST_DETAILS
    assert policy["failure-details"][0]["failed-session-count"] == 1000


_counted = st.builds(
    Counted,
    policy_type=st.sampled_from(["tlsa", "sts", "no-policy-found"]),
    policy=st.lists(st.sampled_from(["version: STSv1", "3 1 1 00", "mx: é"]), max_size=2),
    mx=st.lists(st.sampled_from(["a.example", "*.b.example"]), max_size=2),
    result=st.sampled_from(["", "validation-failure", "tlsa-invalid"]),
    reason=st.text(max_size=5),
    sessions=st.integers(1, 10**9),
)


@given(st.lists(_counted, max_size=12), st.randoms(use_true_random=False))
def test_no_session_is_lost_and_the_order_of_rows_does_not_matter(rows: list[Counted], chance: Any) -> None:
    report = build_report(US, DAY, "receiver.example", rows)
    succeeded, failed = totals(report.policies)
    assert succeeded == sum(row.sessions for row in rows if not row.result)
    assert failed == sum(row.sessions for row in rows if row.result)
    details = [detail for policy in report.policies for detail in policy.failure_details]
    assert sum(detail.failed_session_count for detail in details) == failed
    mixed = list(rows)
    chance.shuffle(mixed)
    assert encode_report(build_report(US, DAY, "receiver.example", mixed)) == encode_report(report)
