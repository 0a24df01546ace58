"""Whatever is wrong with an event is said by name, and the stream goes on."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.stack import Stack, now, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _the_stream_goes_on(stack: Stack) -> Iterator[None]:
    """A good mail published after each bad one is delivered."""
    yield
    to = stack.address()
    stack.until(stack.send("normal", to=[to]), "delivered")


NAMED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # what is wrong: (the event's fields, outcome, field, category)
    "a recipient that is no list": ({"to": "jo@mail.example"}, "rejected", "to", "undecodable"),
    "a subject that is a number": ({"subject": 7}, "rejected", "subject", "undecodable"),
    "no recipients": ({"to": []}, "rejected", "to", "undecodable"),
    "no tenant": ({"tenant_id": None}, "rejected", "tenant_id", "undecodable"),
    "a tenant nobody knows": ({"tenant_id": "nobody"}, "rejected", "tenant_id", "tenant"),
    "no content": ({"subject": None, "text": None}, "rejected", "template", "content"),
    "a domain that is not the tenant's": (
        {"from": {"email": "ceo@other.example"}}, "rejected", "from.email", "domain_not_allowed",
    ),
    "a recipient without a domain": ({"to": [{"email": "jo.example"}]}, "rejected", "to[0].email", "invalid_recipient"),
    "an address twice": (
        {"to": [{"email": "a@b.example"}, {"email": "a@B.example"}]}, "rejected", "to[1].email", "duplicate_recipient",
    ),
    "a line break in the subject": ({"subject": "Hi\r\nBcc: x@y.example"}, "rejected", "subject", "injection"),
    "a bare line feed in a name": (
        {"to": [{"email": "a@b.example", "name": "Jo\nBcc: x@y.example"}]}, "rejected", "to[0].name", "injection",
    ),
    "a NUL in the subject": ({"subject": "Hi\x00"}, "rejected", "subject", "injection"),
    "an encoded word that hides a line break": (
        {"subject": "=?UTF-8?Q?=0A?=Bcc: x@y.example"}, "rejected", "subject", "injection",
    ),
    "a line break in a header of one's own": (
        {"headers": {"X-Tag": "a\r\nBcc: x@y.example"}}, "rejected", "headers.X-Tag", "injection",
    ),
    "a header that is Sluice's": ({"headers": {"Bcc": "x@y.example"}}, "rejected", "headers.Bcc", "invalid"),
    "an event that came too late": ({"expires_at": "2020-01-01T00:00:00Z"}, "expired", "expires_at", "expired"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", NAMED)
def test_an_event_with(wrong: str, stack: Stack) -> None:
    fields, ending, field, category = NAMED[wrong]
    given = {"to": [{"email": stack.address()}], **fields}
    recipients = len(given["to"]) if isinstance(given["to"], list) else 1
    message_id = stack.publish(**given)

    rows = stack.until(message_id if recipients < 2 else f"{message_id}.0", ending)

    assert [(row["event_type"], row["field"], row["category"]) for row in rows] == [(ending, field, category)]
    assert rows[0]["reason"]


def test_a_missing_field_is_named(stack: Stack) -> None:
    event = {"message_id": stack.address(), "tenant_id": "acme", "subject": "Hi", "text": "Hi"}
    stack.produce("mail.send.normal", json.dumps(event).encode())

    assert stack.until(event["message_id"], "rejected")[-1]["field"] == "to"


def test_an_unknown_template_is_named(stack: Stack) -> None:
    message_id = stack.send(to=[stack.address()], template={"id": "nothing-like-it"})

    rejected = stack.until(message_id, "rejected")[-1]

    assert (rejected["field"], rejected["category"]) == ("template.id", "template")


def test_a_missing_variable_is_named(stack: Stack) -> None:
    message_id = stack.send(to=[stack.address()], template={"id": "order-confirmation", "variables": {}})

    rejected = stack.until(message_id, "rejected")[-1]

    assert rejected["category"] == "template"
    assert rejected["field"].startswith("template.variables")
    assert "order" in f"{rejected['field']} {rejected['reason']}"


def test_one_wrong_recipient_does_not_keep_the_others_from_their_mail(stack: Stack) -> None:
    good = stack.address()
    message_id = stack.send(
        to=[
            {"email": good, "variables": {"name": "Jo"}},
            {"email": "gone@mail.example", "variables": {"name": "Gone"}},
        ],
        template={"id": "activation", "variables": {"url": "https://acme.example/a", "hours": 24}},
    )

    stack.until(f"{message_id}.0", "delivered")
    assert stack.until(f"{message_id}.1", "suppressed")[-1]["fault"] == "recipient"


def test_bytes_that_are_no_json_are_kept_as_a_dead_letter(stack: Stack) -> None:
    mark = stack.address()
    before = now()
    stack.produce("mail.send.normal", f"{mark} {{not JSON".encode())

    rows = wait_for(
        lambda: stack.query(
            "SELECT * FROM {db}.outcomes WHERE event_type = 'dead' AND event_time >= {since:DateTime64(3, 'UTC')}",
            {"since": before - timedelta(seconds=1)},
        ),
        bool,
        what="the dead letter's outcome",
    )

    assert rows[-1]["field"] == "value"
    assert rows[-1]["message_id"].startswith("mail.send.normal:")
    assert stack.dead_letters(mark) == 1


def test_an_attachment_of_30_mb_is_refused_by_name(stack: Stack) -> None:
    content = base64.b64encode(bytes(30_000_000)).decode()
    event = {
        "to": [{"email": stack.address()}],
        "attachments": [{"filename": "a.bin", "content_type": "application/octet-stream", "content": content}],
    }
    message_id = stack.send(**event)

    rejected = stack.until(message_id, "rejected", timeout=60)[-1]

    assert (rejected["field"], rejected["category"]) == ("attachments", "size")
