"""``sluice watch`` and ``sluice outcomes`` tell of mail as it goes through, from Kafka alone."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from tests.support.stack import PATIENCE, Stack, settle_commands, wait_for
from typer.testing import CliRunner

from sluice.commands.root import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands talk to the stack's Kafka; ClickHouse is where nobody listens."""
    settle_commands(stack, monkeypatch, SLUICE_CLICKHOUSE_URL="http://127.0.0.1:1")
    yield
    structlog.reset_defaults()


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def lines(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments).splitlines()]


def watched(site: str) -> Any:
    """A frame; its problems are for who looks at it."""
    (found,) = map(
        json.loads, CliRunner().invoke(app, ["watch", "--once", "--json", "--site", site]).stdout.splitlines()
    )
    return found


def test_a_frame_tells_of_mail_that_has_just_gone_through(stack: Stack) -> None:
    """One delivered, one refused at a site of their own, which is then suspended."""
    site = f"s{uuid.uuid4().hex[:8]}.example"
    stack.until(stack.send(to=[stack.address(domain=site)]), "delivered")

    def frame() -> Any:
        """Of the last minute, so another mail is refused each time that one is looked for."""
        stack.until(stack.send(to=[stack.address("+bounce", domain=site)]), "bounced")
        return watched(site)

    found = wait_for(frame, lambda one: one["failures"], timeout=2 * PATIENCE, what="a failure that is told")
    assert found["problems"] == []
    failure = found["failures"][0]
    assert (failure["what"], failure["site"], failure["code"]) == ("bounced", site, 550)
    assert failure["category"] == "invalid_recipient"
    assert {topic["topic"] for topic in found["topics"]} >= {"mail.send.normal", "mail.ready.normal", "mail.outcome"}
    assert found["workers"]["members"] == {"compose": 1, "deliver": 1, "wheel": 1, "record": 1}
    assert any(node.startswith("deliver") for node in found["workers"]["nodes"])
    assert f"@{site}" not in json.dumps(found)

    run("sites", "suspend", site, "--reason", "a story")
    try:
        rows = wait_for(
            lambda: watched(site)["lanes"],
            lambda rows: rows and all("a story" in row["why"] for row in rows),
            what="the suspended site",
        )
        assert {row["site"] for row in rows} == {site}
    finally:
        run("sites", "resume", site)


def test_outcomes_are_printed_as_they_are_written(stack: Stack) -> None:
    to = stack.address()
    message_id = stack.send(to=[to], campaign_id="watched")
    stack.until(message_id, "delivered")
    told = lines("outcomes", "--since", "10m", "--campaign", "watched", "--tenant", "acme")
    assert [one["event_type"] for one in told if one["message_id"] == message_id][-1] == "delivered"
    assert to not in json.dumps(told)
    assert {one["event_type"] for one in lines("outcomes", "--since", "10m", "--type", "delivered", "-n", "1")} == {
        "delivered"
    }
    named = lines("outcomes", "--since", "10m", "--campaign", "watched", "--recipients")
    assert to in json.dumps(named)
