"""``sluice send``: a stream is told line by line, whatever the log does with it."""

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice.adapters.clickhouse.queries import Entry
from sluice.client import Client
from sluice.commands import send_stream as module
from sluice.commands.send_stream import send_stream
from sluice.commands.timeline import what_next

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
BAD = """\
{"tenant_id": "acme"}
not json


{"tenant_id": "acme", "to": [{"email": "nobody"}], "subject": "s", "text": "t"}
"""


@pytest.fixture
def client() -> Iterator[Client]:
    """A client whose cluster is nowhere: what is refused never needs one."""
    made = Client("127.0.0.1:1", source="test")
    yield made
    made.close(0)


def test_refused_lines_are_numbered_as_they_stand_in_the_file(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, kept = tmp_path / "events.jsonl", tmp_path / "refused.jsonl"
    file.write_text(BAD)
    code = send_stream(client, str(file), None, keep_going=False, refused=kept, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (told["read"], told["published"], told["refused"]) == (3, 0, 3)
    assert [(one["line"], one["field"]) for one in told["first_refused"]] == [
        (1, "to"),
        (2, "value"),
        (5, "to[0].email"),
    ]
    assert [json.loads(line) for line in kept.read_text().splitlines()] == told["first_refused"]


def test_only_so_many_refused_lines_are_listed_and_all_are_counted(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"tenant_id": "acme"}\n' * 50)
    assert send_stream(client, str(file), None, keep_going=True, refused=None, as_json=False) == 0
    out = capsys.readouterr().out
    assert "and 30 more; --refused FILE keeps all of them" in out
    assert "50 read, 0 published, 50 refused, 0 failed" in out
    assert "50   to" in out


def test_events_come_from_standard_input(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert send_stream(client, "-", None, keep_going=False, refused=None, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["refused"] == 3


def entry(kind: str, at: float, **more: object) -> Entry:
    empty = {
        name: 0 if "_ms" in name or name in ("attempt", "smtp_code") else "" for name in Entry.__struct_fields__
    } | {"next_attempt_at": None}
    moment = NOW + timedelta(seconds=at)
    return Entry(**{**empty, "event_type": kind, "event_time": moment, "recorded_at": moment, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([entry("composed", 0)], "It is on its way."),
        ([entry("composed", 0), entry("delivered", 1.5)], "Delivered 1.5 s after"),
        ([entry("composed", 0), entry("bounced", 1)], "It ended as bounced"),
        ([entry("deferred", 0, next_attempt_at=NOW + timedelta(minutes=5))], "The next attempt is at .* in 5 min"),
        ([entry("deferred", 0, next_attempt_at=NOW - timedelta(minutes=5))], "The next attempt is due since"),
        ([entry("scheduled", 0, next_attempt_at=NOW + timedelta(hours=2))], "It is made into mail at .* in 2 h"),
        ([entry("held", 0)], "sluice mail release sends it again"),
    ],
)
def test_what_happens_next_is_said(entries: list[Entry], told: str) -> None:
    assert re.match(rf".*{told}", what_next(entries, NOW))
