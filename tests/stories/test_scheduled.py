"""A mail for later waits in the wheel."""

from datetime import timedelta

import pytest
from tests.support.stack import Stack, now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_scheduled_mail_arrives_at_its_time_and_not_before(stack: Stack) -> None:
    to = stack.address()
    due = now() + timedelta(seconds=5)
    message_id = stack.send(to=[to], send_at=due.isoformat())

    assert stack.until(message_id, "scheduled")[0]["next_attempt_at"].timestamp() == pytest.approx(
        due.timestamp(), abs=0.01
    )
    assert stack.equation([message_id]).waiting == 1
    stack.until(message_id, "delivered")

    arrived = stack.received(to)[0].dot_at
    assert 0 <= arrived - due.timestamp() < 3


def test_what_was_due_already_goes_at_once(stack: Stack) -> None:
    to = stack.address()
    message_id = stack.send(to=[to], send_at="2020-01-01T00:00:00Z")

    rows = stack.until(message_id, "delivered")

    assert "scheduled" not in {row["event_type"] for row in rows}


def test_a_schedule_too_far_ahead_is_rejected_by_name(stack: Stack) -> None:
    message_id = stack.send(to=[stack.address()], send_at=(now() + timedelta(days=400)).isoformat())

    rejected = stack.until(message_id, "rejected")[-1]

    assert (rejected["field"], rejected["category"]) == ("send_at", "schedule")
