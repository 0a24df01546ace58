"""Mails that are reports: who may send them, and how they look."""

from __future__ import annotations

import email
import email.policy

import msgspec
import pytest

from sluice.domain.admission import Limits, admit
from sluice.domain.content import compose_content, encode_attachments, given_content
from sluice.domain.errors import Refused
from sluice.domain.events import SendEvent, decode_send
from sluice.domain.reference import Tenant

EVENT = {
    "message_id": "m1", "tenant_id": "us", "from": {"email": "tls@sender.example"}, "to": [{"email": "a@b.example"}],
    "subject": "Report Domain: b.example", "text": "A report.\n", "report_type": "tlsrpt",
    "attachments": [{"filename": "r.json.gz", "content": "H4s=", "content_type": "application/tlsrpt+gzip"}],
}  # fmt: skip


def composed(event: SendEvent, *, may: bool = True) -> bytes:
    tenant = Tenant(tenant_id="us", domains=["sender.example"], tls_reports=may)
    admitted = admit(event, tenant, priority="normal", now=1e9, published_at=1e9, limits=Limits())
    return compose_content(admitted, admitted.deliveries[0], given_content(event), encode_attachments(event), date=1e9)


def test_a_report_is_text_and_attachment_in_a_multipart_report() -> None:
    mail = email.message_from_bytes(composed(decode_send(msgspec.json.encode(EVENT))), policy=email.policy.default)
    assert mail.get_content_type() == "multipart/report"
    assert mail["Content-Type"].params["report-type"] == "tlsrpt"
    text, attached = mail.iter_parts()
    assert text.get_content().strip() == "A report."
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_content() == b"\x1f\x8b"


def test_a_tenant_that_may_not_is_refused_by_field() -> None:
    with pytest.raises(Refused) as refused:
        composed(decode_send(msgspec.json.encode(EVENT)), may=False)
    assert (refused.value.field, refused.value.category) == ("report_type", "tenant")


def test_other_mail_needs_no_leave_and_stays_mixed() -> None:
    plain = {name: value for name, value in EVENT.items() if name != "report_type"}
    content = composed(decode_send(msgspec.json.encode(plain)), may=False)
    assert email.message_from_bytes(content).get_content_type() == "multipart/mixed"
