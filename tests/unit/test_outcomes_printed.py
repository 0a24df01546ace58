"""``sluice outcomes``: which events are printed, and that nobody is named unless it is asked for."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from sluice.commands.outcomes import Wanted
from sluice.commands.root import app
from sluice.domain.outcome import Outcome, SmtpReply, encode_outcome

NOW = datetime(2026, 5, 1, 9, tzinfo=UTC)


def event(**fields: Any) -> bytes:
    plain: dict[str, Any] = {
        "event_id": "e", "event_type": "bounced", "event_time": NOW, "message_id": "m", "tenant_id": "acme",
        "priority": "high", "site": "oak.example", "campaign_id": "autumn", "recipient": "jo@oak.example",
        "recipient_hash": "h", "reason": "jo@oak.example is unknown",
        "smtp": SmtpReply(550, "rcpt", "no jo@oak.example"),
    }  # fmt: skip
    return encode_outcome(Outcome(**{**plain, **fields}))


def test_an_event_is_printed_whole_but_for_who_it_is_to() -> None:
    line = Wanted().line(event(), recipients=False)
    assert line is not None
    assert "\n" not in line
    assert "@" not in line
    told = json.loads(line)
    assert (told["site"], told["smtp"], told["recipient_hash"]) == ("oak.example", {"code": 550, "phase": "rcpt"}, "h")


def test_addresses_are_printed_when_they_are_asked_for() -> None:
    line = Wanted().line(event(), recipients=True)
    assert line is not None
    told = json.loads(line)
    assert told["recipient"] == "jo@oak.example"
    assert told["smtp"]["text"] == "no jo@oak.example"


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(frozenset(("bounced", "deferred")), "oak.example", "acme", "high", "autumn"), True),
        (Wanted(frozenset(("delivered",))), False),
        (Wanted(site="elm.example"), False),
        (Wanted(tenant="shop"), False),
        (Wanted(priority="bulk"), False),
        (Wanted(campaign="spring"), False),
    ],
)
def test_only_what_is_wanted_is_printed(wanted: Wanted, taken: bool) -> None:
    assert (wanted.line(event(), recipients=False) is not None) == taken


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"[1]", b"7", b'{"event_type": '])
def test_what_is_no_event_is_passed_over(value: bytes) -> None:
    assert Wanted(tenant="acme").line(value, recipients=False) is None


def test_a_type_that_there_is_not_is_wrong_usage_and_the_types_are_named() -> None:
    done = CliRunner().invoke(app, ["outcomes", "--follow", "--type", "bounce"])
    assert done.exit_code == 2
    assert re.search(r"--type bounce: the types are .*bounced", done.stderr)


def test_nothing_to_print_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["outcomes"])
    assert done.exit_code == 2
    assert "--follow" in done.stderr
