"""An idempotency key sends once."""

import pytest
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_repeated_key_sends_one_mail_and_says_which_was_first(stack: Stack) -> None:
    to, key = stack.address(), stack.address()
    first = stack.send(to=[to], idempotency_key=key)
    stack.until(first, "delivered")

    second = stack.send(to=[to], idempotency_key=key)

    rejected = stack.until(second, "rejected")[-1]
    assert (rejected["field"], rejected["category"]) == ("idempotency_key", "duplicate")
    assert first in rejected["reason"]
    assert len(stack.received(to)) == 1


def test_the_same_key_with_another_body_is_a_conflict(stack: Stack) -> None:
    to, key = stack.address(), stack.address()
    stack.until(stack.send(to=[to], idempotency_key=key), "delivered")

    second = stack.send(to=[to], idempotency_key=key, subject="Another", text="story\n")

    rejected = stack.until(second, "rejected")[-1]
    assert (rejected["field"], rejected["category"]) == ("idempotency_key", "idempotency_conflict")
    assert len(stack.received(to)) == 1


def test_keys_are_remembered_by_a_compose_that_was_killed_and_came_back(stack: Stack) -> None:
    to, key = stack.address(), stack.address()
    stack.until(stack.send(to=[to], idempotency_key=key), "delivered")

    stack.kill("compose-1")
    stack.start("compose-1")

    second = stack.send(to=[to], idempotency_key=key)
    assert stack.until(second, "rejected", timeout=90)[-1]["category"] == "duplicate"
    assert len(stack.received(to)) == 1
