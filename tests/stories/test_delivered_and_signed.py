"""A mail goes all the way: from the event to the mailbox, signed, and every step is in ClickHouse."""

import email
import json
from email.policy import SMTP

import pytest
from tests.support.dkim_check import verified_selectors
from tests.support.stack import Stack

from sluice.local.seed import EXAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_transactional_mail_arrives_signed_and_its_steps_are_recorded(stack: Stack) -> None:
    to = stack.address()
    template = {"id": "activation", "variables": {"name": "Jo", "url": "https://acme.example/a?t=1", "hours": 24}}
    message_id = stack.send("high", to=[{"email": to, "name": "Jo Müller"}], template=template)

    content = stack.mail(to)
    rows = stack.until(message_id, "delivered")

    assert verified_selectors(content, stack.local.folder.keys) == {"rsa", "ed25519"}
    parsed = email.message_from_bytes(content, policy=SMTP)
    assert parsed["to"].addresses[0].display_name == "Jo Müller"
    assert parsed["from"].addresses[0].addr_spec == "hello@acme.example"
    assert [row["event_type"] for row in rows] == ["composed", "attempted", "delivered"]
    delivered = rows[-1]
    assert (delivered["smtp_code"], delivered["priority"], delivered["site"]) == (250, "high", "story.example")
    assert f"<{delivered['rfc5322_message_id']}>" == parsed["message-id"]
    assert delivered["queued_at"] <= rows[0]["event_time"] <= delivered["event_time"]


def test_outcomes_hold_no_address_and_the_recipient_is_kept_apart(stack: Stack) -> None:
    to = stack.address("+bounce")
    message_id = stack.send(to=[to])

    rows = stack.until(message_id, "bounced")

    assert to not in json.dumps(rows, default=str)
    kept = stack.query("SELECT recipient FROM {db}.recipients WHERE message_id = {id:String}", {"id": message_id})
    assert {row["recipient"] for row in kept} == {to}


@pytest.mark.parametrize("name", ["order-confirmation", "password-reset", "newsletter", "attachment", "idn-recipient"])
def test_the_examples_are_delivered_to_everybody_they_name(stack: Stack, name: str) -> None:
    event = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    del event["message_id"]
    recipients = [*event["to"], *event.get("cc", []), *event.get("bcc", [])]

    message_id = stack.client.send(event).message_id

    ids = [message_id] if len(recipients) == 1 else [f"{message_id}.{n}" for n in range(len(recipients))]
    for each in ids:
        stack.until(each, "delivered")
    assert stack.equation(ids).delivered == len(recipients)
