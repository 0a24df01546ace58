"""An operator suspends a site: nothing more is sent to it, until it is resumed."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from tests.support.stack import Stack, settle_commands, wait_for
from typer.testing import CliRunner

from sluice.commands.root import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command talks to the stack's Kafka, and sends by its routes."""
    settle_commands(stack, monkeypatch)
    yield
    structlog.reset_defaults()


def sites(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["sites", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_suspended_site_gets_nothing_until_it_is_resumed(stack: Stack) -> None:
    site = f"s{uuid.uuid4().hex[:8]}.example"
    before = stack.address(domain=site)
    stack.until(stack.send(to=[before]), "delivered")

    sites("suspend", site, "--reason", "a story")

    def put_off() -> list[dict[str, Any]]:
        """What becomes of a mail: those sent before the workers have heard are delivered, at most for a second."""
        to = stack.address(domain=site)
        rows = stack.until(stack.send(to=[to]), "delivered", "deferred")
        return [{**row, "to": to} for row in rows]

    rows = wait_for(put_off, lambda rows: rows[-1]["event_type"] == "deferred", what="a mail that is put off")
    assert rows[-1]["category"] == "throttled"
    assert rows[-1]["smtp_code"] == 0
    assert "attempted" not in [row["event_type"] for row in rows]
    assert stack.received(rows[-1]["to"]) == []
    assert "a story" in sites("explain", site)
    assert "when resumed" in sites("list")

    sites("resume", site)
    after = stack.address(domain=site)

    def delivered() -> str:
        return str(stack.until(stack.send(to=[after]), "delivered", "deferred")[-1]["event_type"])

    wait_for(delivered, "delivered".__eq__, what="a mail that is delivered again")
    assert stack.received(after)
    assert stack.received(rows[-1]["to"]) == [], "put off until later, and there is no later yet"
