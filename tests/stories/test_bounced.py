"""A hard bounce is final, and the next mail to that address is not even tried."""

import pytest
from tests.support.stack import Stack, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_after_a_hard_bounce_the_address_is_suppressed(stack: Stack) -> None:
    to = stack.address("+bounce")
    first = stack.send(to=[to])
    bounced = stack.until(first, "bounced")[-1]
    assert (bounced["smtp_code"], bounced["category"], bounced["fault"]) == (550, "invalid_recipient", "recipient")

    def send_again() -> str:
        again = stack.send(to=[to])
        return str(stack.until(again, "suppressed", "bounced")[-1]["event_type"])

    # The suppression travels through its own topic: a mail sent at the same moment may still go out and bounce.
    wait_for(send_again, lambda ending: ending == "suppressed", 20, "the suppression")


def test_a_bounce_that_is_not_the_recipients_fault_suppresses_nothing(stack: Stack) -> None:
    to = stack.address("+spam")
    first = stack.send(to=[to])
    assert stack.until(first, "bounced")[-1]["fault"] != "recipient"

    second = stack.send(to=[to])

    assert stack.until(second, "bounced", "suppressed")[-1]["event_type"] == "bounced"
