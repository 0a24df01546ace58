"""A deliver worker is killed in the middle of 2,000 mails: none is lost, and only what was in flight may come twice."""

from __future__ import annotations

import time

import pytest
from tests.support.stack import Stack, wait_for

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.client import new_message_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
MAILS = 2000
DOMAINS = 40


def test_sigkill_in_the_middle_of_two_thousand_mails(stack: Stack) -> None:
    """Rows 1 to 5 of the fault table at once: whatever a mail's moment was, it is delivered, and the ledger knows."""
    ids = [new_message_id() for _ in range(MAILS)]
    mails = (
        {
            "message_id": each,
            "tenant_id": "acme",
            "to": [{"email": f"u{number}@killed{number % DOMAINS}.example"}],
            "subject": "A story",
            "text": "Once upon a time.\n",
        }
        for number, each in enumerate(ids)
    )
    wanted = {f"<{each}@acme.example>" for each in ids}

    def arrived() -> int:
        return len(wanted & stack.mailbox.copies().keys())

    # A slow dot keeps many mails in flight at every moment.
    with stack.misbehaving(Behaviour(phase="dot", delay=0.3)):
        assert stack.client.send_many(mails).published == MAILS
        wait_for(arrived, lambda count: count > MAILS // 4, 60, "a quarter of the mails")
        stack.kill("deliver-1")
        before = arrived()
        assert before < MAILS, "killed too late to show anything"
        killed_at = time.monotonic()
        stack.start("deliver-1")
        wait_for(arrived, lambda count: count > before + DOMAINS * 10, 60, "a mail after the kill")
        first = time.monotonic() - killed_at
    wait_for(arrived, lambda count: count == MAILS, 90, "all mails")
    wait_for(lambda: stack.equation(ids).delivered, lambda count: count == MAILS, 30, "all outcomes")
    in_doubt = stack.query(
        "SELECT DISTINCT message_id FROM {db}.outcomes "
        "WHERE event_type = 'in_doubt' AND message_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    doubtful = {row["message_id"] for row in in_doubt}
    twice = {each for each in ids if stack.mailbox.copies()[f"<{each}@acme.example>"] > 1}
    assert twice <= doubtful, "a mail came twice and the ledger does not know"
    assert max(stack.mailbox.copies()[f"<{each}@acme.example>"] for each in ids) <= 2
    assert 0 < len(doubtful) <= 400, "more in doubt than connections that were open"
    assert first < 40.0
    equation = stack.equation(ids)
    assert equation.accepted == equation.delivered == MAILS
    assert equation.difference == 0
