"""A mail's timeline as people read it, at once and as it happens."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from sluice.adapters.clickhouse.queries import Entry
from sluice.commands.conversation import conversation_lines, conversations
from sluice.commands.following import follow
from sluice.commands.timeline import heading, timeline_line, timeline_table, what_next
from sluice.domain.conversation import Exchange

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def entry(kind: str, at: float, **more: object) -> Entry:
    """An outcome some seconds after noon."""
    numbers = ("attempt", "smtp_code", "duration_ms")
    empty = {name: 0 if "_ms" in name or name in numbers else "" for name in Entry.__struct_fields__}
    moment = NOW + timedelta(seconds=at)
    given = {"event_type": kind, "event_time": moment, "recorded_at": moment, "event_id": f"{kind}{at}"}
    return Entry(**{**empty, "next_attempt_at": None, "queued_at": NOW, **given, **more})  # type: ignore[arg-type]


STORY = [
    entry("composed", 0.2, wait_queue_ms=180, rfc5322_message_id="m1@acme.example", trace_id="4bf9", tenant_id="acme"),
    entry("attempted", 0.3, attempt=1, mx_host="mx.site.example", mx_address="192.0.2.1"),
    entry(
        "deferred", 1.5, attempt=1, mx_host="mx.site.example", mx_address="192.0.2.1", tls_version="TLSv1.3",
        tls_policy="mta_sts", smtp_code=451, smtp_phase="rcpt", smtp_text="4.7.1 greylisted", smtp_enhanced="4.7.1",
        rule="greylisting", category="transient", duration_ms=1200.0, next_attempt_at=NOW + timedelta(minutes=5),
        connection_mail=3, conversation=[
            Exchange("mail", "MAIL FROM:<…>", "250 2.1.0 ok", 0.4),
            Exchange("log", ms=5.25),
            Exchange("rcpt", "RCPT TO:<…>", "451 4.7.1 greylisted", 1_150.0),
        ],
    ),
    entry("delivered", 301, attempt=2, smtp_code=250, smtp_phase="dot", smtp_text="ok", wait_retry_ms=299_000),
]  # fmt: skip


def test_a_mail_that_a_plan_drives_tells_of_which_it_was_made() -> None:
    assert "plan p1 drives m0 again" in heading("m1", [entry("composed", 0, redrive_plan="p1", redrive_of="m0")])
    assert "plan" not in heading("m0", [entry("redriven", 0, redrive_plan="p1")])


def shown(entries: list[Entry]) -> str:
    """The table as text."""
    out = io.StringIO()
    Console(file=out, width=240).print(timeline_table(entries))
    return out.getvalue()


def test_a_timeline_says_when_it_was_published_and_of_each_attempt_where_how_and_who_decided() -> None:
    text = shown(STORY)
    lines = [line for line in text.splitlines() if "12:0" in line]
    assert [line.split()[2] for line in lines] == ["published", "+200", "+100", "+1.2", "+5"]
    deferred = next(line for line in lines if "deferred" in line)
    for part in (
        "mx.site.example [192.0.2.1]",
        "TLSv1.3 (mta_sts)",
        "1.2 s",
        "451 4.7.1 greylisted (rcpt)",
        "greylisting",
    ):
        assert part in deferred
    assert "retry 4 min 59 s" in text
    assert what_next(STORY, NOW) == "Delivered 5 min 1 s after it was published; nothing more happens."


def test_what_was_said_stands_below_with_the_time_that_it_took() -> None:
    out = io.StringIO()
    Console(file=out, width=240).print(*conversations(STORY))
    title, *rest = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
    assert title == "attempt 1 with mx.site.example, mail 3 of its connection: deferred"
    said = [line.split("  ")[0] for line in rest[2:]]
    assert said == ["mail", "log", "rcpt"]
    assert "(until the attempt is written down)" in rest[3]
    assert rest[4].endswith("1.1 s") or rest[4].endswith("1.2 s")
    lines = conversation_lines(STORY[2])
    assert lines[0] == "    mail         0.4 ms  MAIL FROM:<…>  250 2.1.0 ok"
    assert conversation_lines(STORY[0]) == []


def test_the_heading_says_which_mail_it_is() -> None:
    assert heading("m1", STORY) == "m1, tenant acme, Message-ID <m1@acme.example>, trace 4bf9"


def test_a_line_for_whoever_watches_holds_the_same() -> None:
    line = timeline_line(STORY[2])
    assert line.startswith("2026-11-30 12:00:01.500  deferred")
    for part in ("attempt 1", "mx.site.example", "451 4.7.1 greylisted", "[greylisting]", "in 1.2 s"):
        assert part in line


@pytest.mark.parametrize("as_json", [False, True])
def test_following_prints_each_step_once_and_ends_with_the_mail(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a step that comes to be known after a later one."""
    looks = iter([{}, {"m1": STORY[:1]}, {"m1": [STORY[0], STORY[2]]}, {"m1": STORY[:3]}, {"m1": STORY}])
    follow(lambda: next(looks), as_json=as_json, sleep=lambda _: None)
    out = capsys.readouterr().out
    if as_json:
        steps = [json.loads(line)["step"]["event_type"] for line in out.splitlines()]
        assert steps == ["composed", "deferred", "attempted", "delivered"]
    else:
        assert out.count("composed") == out.count("  attempted ") == out.count("  delivered ") == 1
        assert "The next attempt is" in out
        assert out.rstrip().endswith("nothing more happens.")
