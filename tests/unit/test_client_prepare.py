"""What the SDK makes of a mail before it is published."""

import json

import pytest

from sluice.client.prepare import domain_key, prepare
from sluice.domain.errors import Refused
from sluice.domain.events import Attachment, Mailbox, Recipient, SendEvent, decode_send

MAIL = {"tenant_id": "acme", "to": [{"email": "Jo@Mail.Example"}], "subject": "Grüße", "text": "你好"}


def _prepare(mail, priority=None):
    return prepare(
        mail,
        priority,
        source="shop",
        new_id=lambda: "new-id",
        now="2026-06-01T09:00:00.000+00:00",
        traceparent="00-a-b-01",
    )


def _refused(mail):
    with pytest.raises(Refused) as caught:
        _prepare(mail)
    return caught.value


def test_a_mapping_gets_a_message_id_and_keeps_its_own():
    assert _prepare(MAIL).message_id == "new-id"
    assert _prepare({**MAIL, "message_id": "mine"}).message_id == "mine"
    assert _prepare({**MAIL, "message_id": None}).message_id == "new-id"


def test_the_caller_s_mapping_is_left_alone():
    mail = dict(MAIL)
    _prepare(mail)
    assert mail == MAIL


@pytest.mark.parametrize(
    "form", [dict, json.dumps, lambda mail: json.dumps(mail).encode()], ids=["map", "str", "bytes"]
)
def test_every_form_of_a_mail_becomes_the_same_event(form):
    event = decode_send(_prepare(form(MAIL)).value)
    assert (event.message_id, event.subject, event.text) == ("new-id", "Grüße", "你好")


def test_json_with_an_id_is_published_byte_for_byte():
    line = json.dumps({**MAIL, "message_id": "mine", "future_field": 1}, indent=1).encode()
    assert _prepare(line).value == line


def test_a_struct_travels_without_the_fields_that_it_does_not_set():
    event = SendEvent(
        message_id="mine",
        tenant_id="acme",
        to=[Recipient("jo@mail.example")],
        from_=Mailbox("shop@acme.example", "ACME"),
        attachments=[Attachment("a.bin", b"\x00\xff")],
    )
    prepared = _prepare(event)
    assert json.loads(prepared.value) == {
        "message_id": "mine",
        "tenant_id": "acme",
        "to": [{"email": "jo@mail.example"}],
        "from": {"email": "shop@acme.example", "name": "ACME"},
        "attachments": [{"filename": "a.bin", "content": "AP8="}],
    }
    assert decode_send(prepared.value) == event


def test_a_struct_built_wrong_is_refused_like_anything_else():
    event = SendEvent(message_id="mine", tenant_id="acme", to=[Recipient("jo@mail.example"), Recipient("")])
    assert _refused(event).field == "to[1].email"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": []}, "to"),
        ({"to": [{"email": "nobody"}]}, "to[0].email"),
        ({"to": [{"email": "@mail.example"}]}, "to[0].email"),
        ({"to": [{"email": "jo@"}]}, "to[0].email"),
        ({"headers": {"X-Tag": 7}}, "headers.X-Tag"),
        ({"from_": {"email": "shop@acme.example"}}, "from_"),
        ({"subject": "\ud800"}, "value"),
        ({"metadata": object()}, "value"),
        ({"metadata": {1.5j: "a"}}, "value"),
        ({"tenant_id": "acme\n"}, "tenant_id"),
    ],
)
def test_a_wrong_mail_is_refused_with_its_field(change, field):
    assert _refused({**MAIL, **change}).field == field


@pytest.mark.parametrize("mail", [b"", b"{", b"[]", "7", b"\xff", 7, None, [MAIL], b"[" * 100_000])
def test_what_is_no_mail_at_all_is_refused(mail):
    assert _refused(mail).field == "value"


def test_a_bottomless_mapping_is_refused():
    mail = {**MAIL, "metadata": {}}
    mail["metadata"]["self"] = mail
    assert _refused(mail).field == "value"


def test_a_refusal_repeats_no_content():
    assert "secret" not in str(_refused({**MAIL, "subject": "secret \ud800"}))
    assert "secret" not in str(_refused({**MAIL, "stream": "secret"}))


@pytest.mark.parametrize(
    ("stream", "asked", "topic"),
    [
        ("transactional", None, "mail.send.normal"),
        ("broadcast", None, "mail.send.bulk"),
        ("broadcast", "normal", "mail.send.normal"),
        ("transactional", "high", "mail.send.high"),
        ("transactional", "bulk", "mail.send.bulk"),
    ],
)
def test_the_topic_follows_from_priority_and_stream(stream, asked, topic):
    assert _prepare({**MAIL, "stream": stream}, asked).topic == topic


def test_a_priority_that_there_is_not_is_the_caller_s_mistake():
    with pytest.raises(ValueError, match="high, normal, bulk"):
        _prepare(MAIL, "urgent")


@pytest.mark.parametrize(
    ("email", "key"),
    [
        ("jo@mail.example", b"mail.example"),
        ("Jo@MAIL.Example.", b"mail.example"),
        ("li.lei@例子.example", b"xn--fsqu00a.example"),
        ("kontakt@Bücher.example", b"xn--bcher-kva.example"),
        ('"a@b"@mail.example', b"mail.example"),
        (f"jo@{'ü' * 70}.example", f"{'ü' * 70}.example".encode()),
    ],
)
def test_the_key_is_the_recipient_s_domain(email, key):
    assert domain_key(email) == key


def test_headers_are_cloud_events_in_binary_mode():
    assert dict(_prepare(MAIL).headers) == {
        "ce_specversion": b"1.0",
        "ce_type": b"sluice.send.v1",
        "ce_id": "new-id",
        "ce_source": "shop",
        "ce_time": "2026-06-01T09:00:00.000+00:00",
        "content-type": b"application/json",
        "traceparent": "00-a-b-01",
    }
