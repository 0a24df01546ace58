"""``sluice topics plan --rate``: without Kafka, in words or as JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sluice.commands.failures import WrongUsage
from sluice.commands.topics import app


def plan(*arguments: str) -> str:
    """What it prints."""
    done = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_plan_says_why_and_ends_in_settings_to_take_over() -> None:
    text = plan("--rate", "200", "--peak", "2000", "--heavy-site", "google=40%")
    assert "800 mails/s at peak" in text
    assert "export SLUICE_KAFKA_SEND_PARTITIONS=12" in text


def test_it_can_be_read_by_programs() -> None:
    found = {need["what"]: need["value"] for need in json.loads(plan("--rate", "5", "--heavy-site", "a=0.5", "--json"))}
    assert found["lanes of a"] == 1
    assert found["deliver"] == 2


@pytest.mark.parametrize(
    "arguments", [["--peak", "5"], ["--heavy-site", "a=1%"], ["--rate", "5", "--heavy-site", "google"]]
)
def test_what_does_not_go_together_is_said(arguments: list[str]) -> None:
    with pytest.raises(WrongUsage):
        CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
