"""A site goes silent after the content, and the sender wants no second copy: somebody decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def sluice(stack: Stack, *arguments: str) -> Any:
    """What the command answers."""
    done = subprocess.run(
        [sys.executable, "-c", "from sluice.cli import main; main()", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **stack.local.environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_held_mail_that_is_released_is_delivered_once_however_often_that_is_said(stack: Stack) -> None:
    to = stack.address("+drop1")
    mail = stack.send(to=[to], in_doubt="hold")
    stack.until(mail, "held")
    assert stack.received(to) == []
    assert mail in [line["id"] for line in sluice(stack, "mail", "held", "--tenant", "acme")["oldest"]]

    assert sluice(stack, "mail", "release", mail, "--yes", "--reason", "the site has nothing")["released"] == 1
    assert sluice(stack, "mail", "release", "--tenant", "acme", "--yes")["released"] == 0

    rows = stack.until(mail, "delivered", timeout=60)
    assert "the site has nothing" in next(row["reason"] for row in rows if row["event_type"] == "redriven")
    assert len(stack.received(to)) == 1
    found = stack.equation([mail])
    assert (found.accepted, found.delivered) == (1, 1)


def test_a_held_mail_that_is_dropped_ends_as_cancelled_and_is_counted_once(stack: Stack) -> None:
    """The site had it after all."""
    to = stack.address("+lost1")
    mail = stack.send(to=[to], in_doubt="hold")
    stack.until(mail, "held")
    waiting = stack.equation([mail])
    assert (waiting.accepted, waiting.waiting) == (1, 1)

    assert sluice(stack, "mail", "drop", mail, "--yes", "--reason", "it was there")["dropped"] == 1

    ended = next(row for row in stack.until(mail, "cancelled", timeout=60) if row["event_type"] == "cancelled")
    assert ended["reason"].endswith(": it was there")
    found = stack.equation([mail])
    assert (found.accepted, found.cancelled, found.waiting) == (1, 1, 0)
    assert len(stack.received(to)) == 1
    assert mail not in [line["id"] for line in sluice(stack, "mail", "held")["oldest"]]
