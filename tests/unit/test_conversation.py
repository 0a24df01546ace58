"""A conversation as it is told: bounded, in order, without addresses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.conversation import MOST_BYTES, MOST_EXCHANGES, Transcript
from sluice.domain.replies import without_addresses


class Ticks:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_each_part_has_the_time_that_it_took() -> None:
    now = Ticks()
    talk = Transcript(now, 3)
    talk.say("mail", "MAIL FROM:<…>")
    now.at += 0.0125
    talk.hear(250, ("2.1.0 ok", "really"))
    talk.say("rcpt", "RCPT TO:<…>")
    now.at += 300
    talk.note("timeout")
    told = talk.told()
    assert told is not None
    assert told.mail == 3
    assert [(each.phase, each.reply, each.ms) for each in told.exchanges] == [
        ("mail", "250 2.1.0 ok / really", 12.5),
        ("rcpt", "(timeout)", 300_000.0),
    ]


def test_a_wait_is_told_when_it_took_time() -> None:
    now = Ticks()
    talk = Transcript(now)
    talk.say("log")
    talk.passed()
    assert talk.told() is None
    talk.say("log")
    now.at += 0.02
    talk.passed()
    told = talk.told()
    assert told is not None
    assert [(each.phase, each.ms) for each in told.exchanges] == [("log", 20.0)]


def test_what_nobody_asked_for_is_not_noted() -> None:
    talk = Transcript(Ticks())
    talk.hear(250, ("ok",))
    talk.note("disconnected")
    talk.passed()
    assert talk.told() is None


lines = st.lists(st.text(max_size=2_000), min_size=1, max_size=20)


@given(st.lists(lines, min_size=1, max_size=60))
def test_however_long_a_server_talks_what_is_told_is_short(replies: list[list[str]]) -> None:
    """The last parts are those that decided."""
    talk = Transcript(Ticks())
    for reply in replies:
        talk.say("ehlo", "EHLO sender.example")
        talk.hear(250, reply)
    told = talk.told()
    assert told is not None
    assert len(told.exchanges) == min(len(replies), MOST_EXCHANGES)
    size = sum(len(each.command.encode()) + len(each.reply.encode("utf-8", "replace")) for each in told.exchanges)
    assert size <= MOST_BYTES


def test_the_longest_replies_are_cut_and_short_ones_are_not() -> None:
    talk = Transcript(Ticks())
    for text in ("x" * 5_000, "2.1.0 ok", "y" * 5_000, "z" * 500, "z" * 500, "z" * 500):
        talk.say("rcpt")
        talk.hear(550, (text,))
    told = talk.told()
    assert told is not None
    first, short, *_ = (each.reply for each in told.exchanges)
    assert first.endswith("…")
    assert short == "550 2.1.0 ok"


def test_an_address_is_left_out_however_it_is_written_and_cut() -> None:
    for text in (
        "<jo@site.example>... no such user",
        'no "jo smith"@site.example here',
        "jo+tag@site.example unknown",
        "user=jo@site.example",
        "cut off at jo@",
    ):
        assert "jo" not in without_addresses(text)
