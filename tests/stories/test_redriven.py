"""A site refuses a campaign; afterwards a plan drives it again, and its driver is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from typing import Any

import pytest
from tests.support.stack import Stack, wait_for

from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.client import new_message_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MAILS = 60


def command(stack: Stack, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from sluice.cli import main; main()", "redrive", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **stack.local.environment},
    )


def sluice(stack: Stack, *arguments: str, status: int = 0) -> Any:
    """What the command answers, or what it complains of."""
    done = command(stack, *arguments)
    answer, complaint = done.communicate(timeout=120)
    assert done.returncode == status, complaint
    return json.loads(answer) if status == 0 else complaint


def test_a_plan_whose_driver_is_killed_drives_each_mail_once(stack: Stack) -> None:
    site, campaign = f"{uuid.uuid4().hex[:8]}.example", uuid.uuid4().hex
    recipients = [f"u{number}@{site}" for number in range(MAILS)]
    with stack.misbehaving(Behaviour(domain=site, reply="554 5.7.1 blocked for spam")):
        first = [stack.send(to=[each], campaign_id=campaign) for each in recipients[:-3]]
        several = new_message_id()
        stack.send(message_id=several, to=recipients[-3:-1], cc=[{"email": recipients[-1]}], campaign_id=campaign)
        first += [f"{several}.{number}" for number in range(3)]
        count = (
            "SELECT uniqExact(message_id) AS n FROM {db}.outcomes WHERE campaign_id = {c:String} "
            "AND event_type = 'bounced'"
        )
        wait_for(lambda: stack.query(count, {"c": campaign})[0]["n"], lambda n: n == MAILS, 60, "all to bounce")
    assert not any(mail for each in recipients for mail in stack.received(each))

    where = f"campaign_id = '{campaign}' AND event_type = 'bounced'"
    planned = sluice(stack, "plan", "--where", where, "--tenant", "acme", "--as", "Jo of operations")
    plan = planned["plan"]["plan_id"]
    assert (planned["plan"]["mails"], planned["plan"]["excluded"]) == (MAILS, {})
    assert sum(each["mails"] for each in planned["plan"]["counts"]) == MAILS
    assert sluice(stack, "plan", "--where", where, "--tenant", "globex")["plan"]["mails"] == 0

    driver = command(stack, "start", plan, "--rate", "10/s", "--priority", "bulk")
    reached = "SELECT max(next) AS n FROM {db}.redrive_batches WHERE plan_id = {p:String}"
    wait_for(lambda: stack.query(reached, {"p": plan})[0]["n"], lambda n: n >= MAILS // 4, 60, "a part to be driven")
    driver.kill()
    driver.communicate()
    assert 0 < stack.query(reached, {"p": plan})[0]["n"] < MAILS

    assert "other options" in sluice(stack, "start", plan, "--priority", "high", status=2)
    rest = sluice(stack, "start", plan)
    assert (rest["state"], rest["driven"], rest["left"], rest["skipped"]) == ("done", MAILS, 0, {})
    assert "is done" in sluice(stack, "start", plan, status=2)

    def told() -> Any:
        return sluice(stack, "status", plan)

    status = wait_for(told, lambda found: found["results"]["states"] == {"delivered": MAILS}, 60, "all to be delivered")
    assert status["status"]["options"] == {"rate": "10/s", "priority": "bulk"}
    assert (status["audit"][0]["action"], status["audit"][0]["by"]) == ("plan", "Jo of operations")
    assert [word["action"] for word in status["audit"]] == ["plan", "start", "start", "done"]
    assert Counter(len(stack.received(each)) for each in recipients) == {1: MAILS}

    made = stack.query(
        "SELECT redrive_of, priority, uniqExact(message_id) AS mails FROM {db}.outcomes "
        "WHERE redrive_plan = {p:String} AND event_type = 'delivered' GROUP BY ALL",
        {"p": plan},
    )
    assert {row["redrive_of"]: (row["priority"], row["mails"]) for row in made} == dict.fromkeys(first, ("bulk", 1))
    marked = (
        "SELECT message_id, count() AS n FROM {db}.outcomes WHERE redrive_plan = {p:String} "
        "AND event_type = 'redriven' GROUP BY ALL"
    )
    told_of = wait_for(
        lambda: stack.query(marked, {"p": plan}), lambda rows: len(rows) == MAILS, 30, "all to be marked"
    )
    assert {row["message_id"]: row["n"] for row in told_of} == dict.fromkeys(first, 1)
    again = sluice(stack, "plan", "--where", where)["plan"]
    assert (again["mails"], again["excluded"]) == (0, {"driven": MAILS})
