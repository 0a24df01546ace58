"""``sluice mail``: one mail's story, found by what its sender or its recipient knows of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def sluice(stack: Stack, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "sluice.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **stack.local.environment, "COLUMNS": "240"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_mail_is_followed_to_its_end_and_found_again_by_address_and_message_id(stack: Stack) -> None:
    """With the attempt that failed: where, under which protection, which reply, by which rule, and when again."""
    to = stack.address("+defer1")
    message_id = stack.send(to=[to])

    followed = sluice(stack, "mail", message_id, "--follow")
    kinds = [line.split()[2] for line in followed.splitlines() if line[:2] == "20"]
    assert kinds[0] == "composed"
    assert kinds[-1] == "delivered"
    assert kinds.count("attempted") == 2
    assert "The next attempt is" in followed
    assert len(kinds) == len(stack.outcomes(message_id))

    (told,) = json.loads(sluice(stack, "mail", message_id, "--json"))
    deferred = next(step for step in told["timeline"] if step["event_type"] == "deferred")
    assert deferred["mx_host"]
    assert deferred["rule"]
    assert deferred["smtp_code"] >= 400
    assert deferred["next_attempt_at"]
    assert deferred["tls_policy"]
    said = deferred["conversation"]
    assert (said[-1]["phase"], said[-1]["reply"][:3]) == ("rcpt", str(deferred["smtp_code"]))
    assert to not in json.dumps(said)
    delivered = told["timeline"][-1]
    assert [each["phase"] for each in delivered["conversation"]][-1] == "dot"
    assert delivered["connection_mail"] >= 1
    header = told["timeline"][0]["rfc5322_message_id"]

    assert [found["message_id"] for found in json.loads(sluice(stack, "mail", to, "--json"))] == [message_id]
    for written in (header, f"<{header}>"):
        assert [found["message_id"] for found in json.loads(sluice(stack, "mail", written, "--json"))] == [message_id]

    again = stack.send(to=[to])
    stack.until(again, "delivered", "deferred")
    both = sluice(stack, "mail", to)
    assert both.index(again) < both.index(message_id)


def test_nothing_is_known_of_an_address_that_was_never_mailed(stack: Stack) -> None:
    with pytest.raises(AssertionError, match="nothing is known"):
        sluice(stack, "mail", stack.address())
