"""Every service is stopped and started again, one after another, while mail flows: each mail arrives."""

from __future__ import annotations

import threading
import time

import pytest
from tests.support.stack import Stack, wait_for

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.client import new_message_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
RATE = 15.0
"""Mails a second: little enough for any machine, and some always under way."""
DOMAINS = 12
ORDER = ("record-1", "wheel-1", "compose-1", "deliver-1")


def test_sigterm_to_each_service_under_load_loses_nothing(stack: Stack) -> None:
    ids: list[str] = []
    enough = threading.Event()

    def publish() -> None:
        while not enough.is_set():
            # Some are put off once by their site, so that the wheel has some as well.
            word = "+defer1" if len(ids) % 10 == 0 else ""
            each = new_message_id()
            to = f"u{len(ids)}{word}@rolled{len(ids) % DOMAINS}.example"
            stack.send(message_id=each, to=[to])
            ids.append(each)
            time.sleep(1 / RATE)

    def arrived() -> int:
        copies = stack.mailbox.copies()
        return sum(f"<{each}@acme.example>" in copies for each in list(ids))

    publishing = threading.Thread(target=publish)
    # A slow dot keeps mails in flight at every moment.
    with stack.misbehaving(Behaviour(phase="dot", delay=0.2)):
        publishing.start()
        try:
            wait_for(arrived, lambda count: count > 10, 90, "the first mails")
            for name in ORDER:
                before = arrived()
                stack.stop(name, timeout=90)
                stack.start(name)
                wait_for(arrived, lambda count, before=before: count > before + 10, 90, f"mails after {name}")
        finally:
            enough.set()
            publishing.join()
    wait_for(arrived, lambda count: count == len(ids), 120, "all mails")
    wait_for(lambda: stack.equation(ids).delivered, lambda count: count == len(ids), 90, "all outcomes")
    equation = stack.equation(ids)
    assert equation.accepted == equation.delivered == len(ids)
    assert equation.difference == 0
    in_doubt = stack.query(
        "SELECT DISTINCT message_id FROM {db}.outcomes "
        "WHERE event_type = 'in_doubt' AND message_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    doubtful = {row["message_id"] for row in in_doubt}
    copies = stack.mailbox.copies()
    assert {each for each in ids if copies[f"<{each}@acme.example>"] > 1} <= doubtful, "a copy that nobody knows of"
