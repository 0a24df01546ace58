"""``sluice watch``: what outcomes of a minute add up to, and the frame that is drawn of it."""

import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from sluice.adapters.embedded.ports import free_port
from sluice.commands import watch_frame as frames
from sluice.commands.flow import Look
from sluice.commands.root import app
from sluice.commands.site_states import LaneView, SiteView
from sluice.commands.sparkline import sparkline
from sluice.commands.watch_screen import Room, draw, room
from sluice.commands.watch_window import MOST_SITES, SECONDS, Code, Filters, Seen, Window, decode_seen
from sluice.domain.mail import Waits
from sluice.domain.outcome import Outcome, SmtpReply, encode_outcome
from sluice.domain.reference import SiteControl

NOW = datetime(2026, 5, 1, 9, tzinfo=UTC)
AT = NOW.timestamp()
ALL = Filters()


def seen(kind: Any = "delivered", **fields: Any) -> Seen:
    return Seen(event_type=kind, **{"site": "oak.example", "node": "deliver-1", "tenant_id": "acme", **fields})


def filled(*takes: tuple[Seen, float]) -> Window:
    window = Window()
    for one, ago in takes:
        window.take(one, AT - ago)
    return window


def lane(name: str, state: Any = "open", **fields: Any) -> LaneView:
    plain: dict[str, Any] = {
        "partition": 0, "why": "", "until": None, "sends": "now", "sends_at": None, "share": "10/s", "rate": "10/s",
        "connections_allowed": 4, "connections": 1, "queued": 0, "node": "deliver-1", "told_at": NOW, "stale": False,
    }  # fmt: skip
    return LaneView(lane=name, state=state, **{**plain, **fields})


def frame(window: Window, **fields: Any) -> frames.Frame:
    plain: dict[str, Any] = {
        "at": NOW, "filters": ALL, "rates": frames.rates(window, frames.RateView(12.5, [None] * 59 + [12.5]), AT),
        "topics": [], "lanes": [], "slowest": window.slowest(), "failures": window.failures(),
        "workers": frames.workers(None, window, AT), "behind_s": None, "problems": [],
    }  # fmt: skip
    return frames.Frame(**{**plain, **fields})


def shown(of: frames.Frame, rows: Room | None = None) -> str:
    screen = Console(file=io.StringIO(), width=180, height=60)
    screen.print(draw(of, rows or Room()))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_rate_is_the_mean_of_the_last_ten_whole_seconds() -> None:
    window = filled(*((seen(), 0.05 + n / 10) for n in range(100)), (seen(), 30.0), (seen(), -0.5))
    delivered = frames.rates(window, frames.RateView(None, []), AT)["delivered"]
    assert delivered.per_second == 10.0
    assert len(delivered.history) == SECONDS
    assert sum(value or 0 for value in delivered.history) == 101


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = filled((seen(), 100.0), (seen("bounced", category="invalid_recipient"), 90.0), (seen(duration_ms=5), 80.0))
    window.forget(AT)
    assert window.kinds(AT) == set()
    assert window.failures() == []
    assert window.slowest() == []
    assert window.nodes(AT) == {}


def test_waiting_for_our_own_limits_is_no_refusal() -> None:
    window = filled((seen("deferred", category="throttled"), 1), (seen("deferred", category="greylisted"), 1))
    made = frames.rates(window, frames.RateView(None, []), AT)
    assert made["deferred"].per_second == made["throttled"].per_second == 0.1
    assert [one.category for one in window.failures()] == ["greylisted"]


def test_failures_that_are_alike_are_one_row_and_the_latest_is_first() -> None:
    quota = seen(
        "deferred",
        category="quota",
        rule="full",
        smtp=Code(452),
    )
    window = filled(*((quota, float(n)) for n in range(5, 9)), (seen("bounced", category="policy", rule="b"), 2.0))
    latest, older = window.failures()
    assert (latest.what, latest.times, latest.at) == ("bounced", 1, NOW - timedelta(seconds=2))
    assert (older.rule, older.code, older.times, older.at) == ("full", 452, 4, NOW - timedelta(seconds=5))


def test_filters_take_what_matches_all_of_them() -> None:
    one = seen(priority="high")
    assert Filters("oak.example", "acme", "high").take(one)
    for other in (Filters(site="elm.example"), Filters(tenant="shop"), Filters(priority="bulk")):
        assert not other.take(one)


def test_sites_are_ranked_by_the_time_of_an_attempt_and_say_what_mail_waited_for() -> None:
    ten = [
        (seen(duration_ms=10.0 * n, queued_at=NOW, event_time=NOW + timedelta(seconds=n)), 1.0) for n in range(1, 11)
    ]
    slow = seen(
        site="elm.example", duration_ms=900.0, queued_at=NOW, event_time=NOW + timedelta(seconds=30),
        waits=Waits(schedule=20_000, rate=7_000, retry=500),
    )  # fmt: skip
    first, second = filled(*ten, (slow, 1.0), (seen("deferred", site="elm.example", category="policy"), 1.0)).slowest()
    assert (first.site, first.waits_for, first.total_p90_ms, first.deferred) == ("elm.example", "rate", 10_000, 1)
    assert (second.site, second.attempt_p50_ms, second.attempt_p90_ms, second.delivered) == ("oak.example", 60, 100, 10)
    assert second.waits_for == ""


def test_sites_that_are_kept_in_mind_are_bounded() -> None:
    window = filled(*((seen(site=f"s{n}.example", duration_ms=1.0), 1.0) for n in range(MOST_SITES + 50)))
    assert len(window.slowest()) == MOST_SITES


def test_an_outcome_as_it_is_written_is_understood_and_nobody_is_named() -> None:
    outcome = Outcome(
        event_id="e", event_type="bounced", event_time=NOW, message_id="m", tenant_id="acme", site="oak.example",
        recipient="jo@oak.example", smtp=SmtpReply(550, "rcpt", "jo@oak.example unknown"), category="invalid_recipient",
        node="n", waits=Waits(rate=5),
    )  # fmt: skip
    found = decode_seen(encode_outcome(outcome))
    assert found is not None
    assert (found.smtp.code, found.category, found.waits.rate) == (550, "invalid_recipient", 5)
    window = filled((found, 1.0))
    assert b"jo@" not in msgspec.json.encode(frame(window))
    assert decode_seen(b"{}") is None
    assert decode_seen(b"\xff") is None


@given(st.lists(st.none() | st.floats(0, 1e9, allow_nan=False), max_size=80))
def test_a_sparkline_has_a_character_per_value_and_anything_stands_out_from_nothing(values: list[float | None]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    for value, drawn in zip(values, line, strict=True):
        assert (drawn == " ") == (value is None)
        assert (drawn == "▁") == (value == 0)


def test_published_is_told_from_looks_and_not_for_a_tenant_or_a_site() -> None:
    def look(at: float, end: int) -> Look:
        return Look(at, {}, {"mail.send.high": end, "mail.send.bulk": 1000}, {}, {}, {})

    every, urgent, acme = (frames.Published(f) for f in (ALL, Filters(priority="high"), Filters(tenant="acme")))
    for published in (every, urgent, acme):
        published.take(look(100.0, 0))
        assert published.rate(100.0).per_second is None
        published.take(look(102.0, 50))
        published.take(look(104.0, 90))
    assert every.rate(104.0).per_second == urgent.rate(104.0).per_second == 22.5
    assert urgent.rate(104.0).history[-4:] == [25, 25, 20, 20]
    assert acme.rate(104.0).per_second is None


def test_topics_tell_lag_age_and_rates_and_leave_out_what_is_empty() -> None:
    names = ("mail.send.high", "mail.ready.high", "mail.ready.bulk", "mail.wheel.10s", "mail.wheel.1h", "mail.dead")
    counts = dict.fromkeys(names, 10)
    lag = {**dict.fromkeys(names, 0), "mail.ready.high": 7, "mail.wheel.1h": 3}
    now = Look(104.0, counts, counts, counts, lag, {"deliver": 2})
    before = Look(102.0, counts, dict.fromkeys(names, 4), counts, lag, {})
    found = frames.topics(now, before, {("mail.ready.high", 1): AT - 4, ("mail.ready.high", 0): AT - 9.04}, AT, ALL)
    by_name = {one.topic: one for one in found}
    assert "mail.wheel.10s" not in by_name
    ready = by_name["mail.ready.high"]
    assert (ready.lag, ready.oldest_s, ready.in_per_second, ready.out_per_second) == (7, 9.0, 3.0, 0.0)
    assert by_name["mail.dead"].out_per_second is None
    urgent = frames.topics(now, before, {}, AT, Filters(priority="high"))
    assert "mail.ready.bulk" not in {one.topic for one in urgent}


def test_lanes_that_are_held_back_come_first_and_say_by_what_and_until_when() -> None:
    soon = NOW + timedelta(minutes=5)
    views = [
        SiteView(site="oak", control=None, sends="now", sends_at=None, lanes=[
            lane("oak#0", queued=5), lane("oak#1", queued=900),
            lane("oak#2", "paused", why="421 come back", until=soon, sends="later", sends_at=soon),
            lane("oak#3", triggered=(("google.daily", "acme", soon.timestamp()),)),
        ]),
        SiteView(
            site="elm", control=SiteControl(site="elm", reason="migrating", by="jo@desk", at=NOW), lanes=[],
            sends="when_resumed", sends_at=None,
        ),
    ]  # fmt: skip
    rows = frames.lanes(views, ALL)
    assert [(row.site, row.lane.lane if row.lane else None) for row in rows] == [
        ("elm", None), ("oak", "oak#2"), ("oak", "oak#3"), ("oak", "oak#1"), ("oak", "oak#0"),
    ]  # fmt: skip
    assert rows[0].why == "migrating (jo@desk)"
    assert (rows[1].why, rows[1].until) == ("421 come back", soon)
    assert (rows[2].why, rows[2].until) == ("trigger google.daily on acme", soon)
    assert [row.site for row in frames.lanes(views, Filters(site="elm"))] == ["elm"]
    text = shown(frame(Window(), lanes=rows))
    assert "421 come back" in text
    assert "in 5 min" in text
    plain = shown(frame(Window(), lanes=rows[3:]))
    assert "900" in plain
    assert "until" not in plain


def test_a_service_that_nobody_runs_is_a_problem() -> None:
    members = {"compose": 1, "deliver": 0, "wheel": 1, "record": 1}
    assert frames.nobody(members) == ["nobody is in the group sluice-deliver: no deliver runs"]
    assert frames.nobody(None) == []


def test_a_frame_is_drawn_with_everything_that_it_has() -> None:
    window = filled(
        (seen(duration_ms=12.0), 1.0), (seen("bounced", category="policy", rule="listed", duration_ms=3.0), 2.0)
    )
    text = shown(frame(window, behind_s=12.0, problems=["Kafka cannot be reached"]))
    for word in ("published", "delivered", "oak.example", "policy", "listed", "Kafka cannot be reached", "12.0 s ago"):
        assert word in text
    assert "suppressed" not in text


@pytest.mark.parametrize("height", [10, 24, 50, 200])
def test_lists_have_the_room_that_a_terminal_leaves(height: int) -> None:
    many = [(seen(site=f"s{n}.example", duration_ms=float(n)), 1.0) for n in range(100)]
    many += [(seen("bounced", site=f"s{n}.example"), 1.0) for n in range(100)]
    lanes = [frames.LaneRow(f"s{n}", lane(f"s{n}#0"), "", None) for n in range(100)]
    full = frame(filled(*many), lanes=lanes)
    lines = shown(full, room(height, full)).count("\n")
    assert lines <= max(height, 33)
    assert f"of {100:,})" in shown(full, room(height, full))


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("nowhere")
def test_without_kafka_a_frame_says_so_and_watching_goes_on() -> None:
    done = CliRunner().invoke(app, ["watch", "--json", "--every", "0.5", "--seconds", "1.2"])
    assert done.exit_code == 0, done.output
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(made) >= 2
    for one in made:
        assert one["topics"] is one["lanes"] is None
        assert [problem.split(" at ")[0] for problem in one["problems"]] == ["Kafka cannot be reached"]
    once = CliRunner().invoke(app, ["watch", "--once"])
    assert once.exit_code == 1
    assert "Kafka cannot be reached" in once.stdout
