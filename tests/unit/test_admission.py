"""Admission: which events become which mails, and what is said of the others."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from sluice.domain.admission import DAY, Admitted, Limits, admit
from sluice.domain.errors import Refused
from sluice.domain.events import SendEvent
from sluice.domain.reference import Tenant

NOW = 1_700_000_000.0
TENANT = {"tenant_id": "shop", "domains": ["shop.example"], "from": {"email": "info@shop.example", "name": "Shop"}}


def admitted(
    *, tenant: dict[str, Any] | None = None, now: float = NOW, priority: Any = "normal", **fields: Any
) -> Admitted:
    event = {
        "message_id": "m1",
        "tenant_id": "shop",
        "to": [{"email": "anna@example.com"}],
        "subject": "Hello",
        "text": "Hello",
    }
    event |= fields
    event = {name: value for name, value in event.items() if value is not ...}
    return admit(
        msgspec.convert(event, SendEvent),
        msgspec.convert(TENANT | (tenant or {}), Tenant),
        priority=priority,
        now=now,
        published_at=NOW,
        limits=Limits(),
    )


def refusal(**fields: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        admitted(**fields)
    return refused.value.field, refused.value.category


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_defaults_are_filled_in() -> None:
    mail = admitted()
    assert mail.sender.address.addr_spec == "info@shop.example"
    assert mail.sender.name == "Shop"
    assert mail.return_path.addr_spec == "info@shop.example"
    assert mail.expires_at == NOW + 2 * DAY
    assert mail.in_doubt == "resend"
    assert mail.unsubscribe is None
    assert [(each.kind, each.message_id) for each in mail.deliveries] == [("to", "m1")]


def test_priority_decides_the_default_expiry() -> None:
    assert admitted(priority="high").expires_at == NOW + DAY


def test_a_scheduled_mail_expires_after_it_was_due() -> None:
    mail = admitted(send_at=at(NOW + 5 * DAY))
    assert (mail.send_at, mail.expires_at) == (NOW + 5 * DAY, NOW + 7 * DAY)


def test_every_recipient_gets_a_mail_of_its_own() -> None:
    mail = admitted(
        to=[
            {"email": "a@x.example", "variables": {"n": 1}, "locale": "de"},
            {"email": "b@x.example", "variables": {"n": 2}},
        ],
        cc=[{"email": "c@x.example", "name": "C"}],
        bcc=[{"email": "d@x.example"}],
    )
    assert [
        (d.kind, d.message_id, d.address.local, d.variables, d.locale, d.rendered_for) for d in mail.deliveries
    ] == [
        ("to", "m1.0", "a", {"n": 1}, "de", 0),
        ("to", "m1.1", "b", {"n": 2}, None, 1),
        ("cc", "m1.2", "c", {"n": 1}, "de", 0),
        ("bcc", "m1.3", "d", {"n": 1}, "de", 0),
    ]
    assert [party.name for party in mail.cc] == ["C"]


@pytest.mark.parametrize(
    ("fields", "field", "category"),
    [
        ({"tenant": {"active": False}}, "tenant_id", "tenant"),
        ({"tenant": {"from": None}}, "from", "invalid_sender"),
        ({"from": {"email": "a@other.example"}}, "from.email", "domain_not_allowed"),
        ({"from": {"email": "a@notshop.example"}}, "from.email", "domain_not_allowed"),
        ({"return_path": "a@other.example"}, "return_path", "domain_not_allowed"),
        ({"return_path": "nobody"}, "return_path", "invalid_sender"),
        ({"reply_to": {"email": "nobody"}}, "reply_to.email", "invalid_sender"),
        ({"to": [{"email": "a@x.example"}, {"email": "nobody"}]}, "to[1].email", "invalid_recipient"),
        ({"cc": [{"email": "nobody"}]}, "cc[0].email", "invalid_recipient"),
        ({"bcc": [{"email": "nobody"}]}, "bcc[0].email", "invalid_recipient"),
        ({"cc": [{"email": "anna@EXAMPLE.com"}]}, "cc[0].email", "duplicate_recipient"),
        ({"text": ...}, "template", "content"),
        ({"subject": ...}, "subject", "content"),
        ({"template": {"id": "t"}}, "subject", "content"),
        ({"template": {"id": "t"}, "subject": ...}, "text", "content"),
        ({"expires_at": at(NOW - 1)}, "expires_at", "expired"),
        ({"now": NOW + 2 * DAY}, "expires_at", "expired"),
        ({"send_at": at(NOW + 31 * DAY)}, "send_at", "schedule"),
        ({"send_at": at(NOW + 60), "expires_at": at(NOW + 60)}, "send_at", "schedule"),
        ({"stream": "broadcast"}, "unsubscribe", "unsubscribe"),
        ({"stream": "broadcast", "unsubscribe": {"list_id": "news"}}, "unsubscribe", "unsubscribe"),
        ({"unsubscribe": {"url": "http://x.example/u"}}, "unsubscribe.url", "unsubscribe"),
        ({"unsubscribe": {"url": "https:///u"}}, "unsubscribe.url", "unsubscribe"),
        ({"unsubscribe": {"url": "https://x.example/u>,<mailto:b@x.example"}}, "unsubscribe.url", "unsubscribe"),
        ({"unsubscribe": {"url": "https://x.example/\r\nBcc:b@x.example"}}, "unsubscribe.url", "unsubscribe"),
        ({"unsubscribe": {"mailto": "u@x.example"}}, "unsubscribe.one_click", "unsubscribe"),
        ({"unsubscribe": {"mailto": "nobody", "one_click": False}}, "unsubscribe.mailto", "unsubscribe"),
        ({"unsubscribe": {"list_id": "a@b", "url": "https://x.example"}}, "unsubscribe.list_id", "unsubscribe"),
        ({"headers": {"bcc": "x@x.example"}}, "headers.bcc", "invalid"),
        ({"headers": {"DKIM-Signature": "x"}}, "headers.DKIM-Signature", "invalid"),
        ({"headers": {"Content-Language": "de"}}, "headers.Content-Language", "invalid"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a", "invalid"),
        ({"headers": {"X A": "1"}}, "headers", "injection"),
        ({"headers": {"X-A:": "1"}}, "headers", "injection"),
        ({"headers": {"X-A\r\nBcc": "1"}}, "headers", "injection"),
        ({"headers": {"X-Ä": "1"}}, "headers", "injection"),
    ],
)
def test_what_cannot_become_mail_is_refused_by_field_and_category(fields: Any, field: str, category: str) -> None:
    assert refusal(**fields) == (field, category)


INJECTIONS = [
    "a\r\nBcc: x@x.example",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x0bb",
    "a\x1b[0m",
    "a\x85b",
    "a\u2028b",
    "=?UTF-8?Q?=0A?=Bcc: x@x.example",
    "=?utf-8?q?a=0D=0ABcc:_x?=",
    "=?utf-8?B?Cg==?=",
    "=?utf-8?b?AA?=",
    "=?utf-7?q?+AAo-?=",
    "=?utf-16?b?AAoACg==?=",
    "=?utf-8*en?Q?=0A?=",
    "=?unknown?Q?=0A?=",
    "=?utf-8?Q?=3D=3Futf-8=3FQ=3F=3D0A=3F=3D?=",
    "half \ud800 pair",
]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("subject", lambda value: {"subject": value}),
        ("from.name", lambda value: {"from": {"email": "a@shop.example", "name": value}}),
        ("reply_to.name", lambda value: {"reply_to": {"email": "a@shop.example", "name": value}}),
        ("to[0].name", lambda value: {"to": [{"email": "a@x.example", "name": value}]}),
        ("cc[0].name", lambda value: {"cc": [{"email": "a@x.example", "name": value}]}),
        ("headers.X-A", lambda value: {"headers": {"X-A": value}}),
        ("attachments[0].filename", lambda value: {"attachments": [{"filename": value, "content": b""}]}),
    ],
)
def test_a_control_character_is_refused_in_every_header_field(value: str, field: str, fields: Any) -> None:
    assert refusal(**fields(value)) == (field, "injection")


@pytest.mark.parametrize(
    "value", ["=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "what =? now", "50 % =?=", "a =?x?= b", "日本語 =?utf-8?B?4pyT?="]
)
def test_harmless_text_that_looks_encoded_is_admitted(value: str) -> None:
    assert admitted(subject=value).event.subject == value


def test_a_subdomain_of_the_tenants_may_send() -> None:
    assert admitted(**{"from": {"email": "a@news.shop.example"}}).sender.address.domain_ascii == "news.shop.example"


def test_an_internationalised_domain_of_the_tenants_may_send() -> None:
    mail = admitted(tenant={"domains": ["bücher.example"]}, **{"from": {"email": "a@xn--bcher-kva.example"}})
    assert mail.sender.address.domain_ascii == "xn--bcher-kva.example"


def test_a_broadcast_uses_the_tenants_way_to_unsubscribe() -> None:
    usual = {"unsubscribe": {"url": "https://shop.example/u", "list_id": "news"}}
    mail = admitted(stream="broadcast", tenant=usual)
    assert mail.unsubscribe is not None
    assert mail.unsubscribe.url == "https://shop.example/u"
    assert admitted(tenant=usual).unsubscribe is None


@pytest.mark.parametrize(
    ("attachment", "field", "category"),
    [
        ({"filename": "../x"}, "filename", "attachment"),
        ({"filename": "a\\b"}, "filename", "attachment"),
        ({"filename": ".."}, "filename", "attachment"),
        ({"sha256": "0" * 64}, "sha256", "attachment"),
        ({"content_type": "message/rfc822"}, "content_type", "attachment"),
        ({"content_type": "multipart/mixed"}, "content_type", "attachment"),
        ({"content_id": "a>\r\nX: b"}, "content_id", "injection"),
        ({"content_id": "a@b@c"}, "content_id", "injection"),
    ],
)
def test_a_wrong_attachment_is_refused(attachment: Any, field: str, category: str) -> None:
    found = refusal(attachments=[{"filename": "ok", "content": b"1"}, {"filename": "x", "content": b"2"} | attachment])
    assert found == (f"attachments[1].{field}", category)


def test_a_right_checksum_is_admitted() -> None:
    admitted(attachments=[{"filename": "x", "content": b"data", "sha256": hashlib.sha256(b"data").hexdigest()}])


def test_content_over_the_limit_is_refused() -> None:
    half = bytes(13 * 1024 * 1024)
    assert refusal(attachments=[{"filename": "a", "content": half}] * 2) == ("attachments", "size")
    admitted(attachments=[{"filename": "a", "content": half}])
    assert refusal(text="x" * (25 * 1024 * 1024 + 1)) == ("text", "size")
