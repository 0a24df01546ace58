"""A site that says 4xx first gets the mail when it is ready for it."""

from datetime import timedelta

import pytest
from tests.support.stack import Stack, now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_greylisted_mail_is_delivered_at_the_second_try(stack: Stack) -> None:
    to = stack.address("+defer1")
    message_id = stack.send(to=[to])

    rows = stack.until(message_id, "delivered")

    assert [row["event_type"] for row in rows] == ["composed", "attempted", "deferred", "attempted", "delivered"]
    deferred, delivered = rows[2], rows[4]
    assert deferred["smtp_code"] == 451
    assert delivered["attempt"] == 2
    assert delivered["event_time"] >= deferred["next_attempt_at"], "tried again before it was time"
    assert delivered["wait_retry_ms"] >= 1000
    assert len(stack.received(to)) == 1


def test_a_mail_that_waits_too_long_expires_and_says_why(stack: Stack) -> None:
    to = stack.address("+defer0")
    message_id = stack.send(to=[to], expires_at=(now() + timedelta(seconds=4)).isoformat())

    rows = stack.until(message_id, "expired")

    assert rows[-1]["smtp_code"] == 451
    assert stack.received(to) == []
    assert stack.equation([message_id]).expired == 1
