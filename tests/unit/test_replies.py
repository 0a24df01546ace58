"""What replies' texts tell."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.replies import enhanced_status, retry_hint


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 no such user", "5.1.1"),
        (250, "2.0.0 Ok: queued as 12345", "2.0.0"),
        (421, "4.7.650 The mail server has been temporarily rate limited", "4.7.650"),
        (550, "#5.1.0 Address rejected.", "5.1.0"),
        (553, "sorry, that domain is not in my list (#5.7.1)", "5.7.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "5.1.1: mailbox unknown", "5.1.1"),
        (450, "5.1.1 class and code disagree", None),
        (550, "no status here", None),
        (550, "5.1.1.1 looks like an address", None),
        (550, "blocked: 5.1.1 only counts at the beginning", None),
        (550, "5.01.1 leading zeros are no status", None),
        (550, "", None),
    ],
)
def test_enhanced_status_is_read_where_rfc_2034_puts_it(code: int, text: str, status: str | None) -> None:
    assert enhanced_status(code, text) == status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 300 seconds", 300),
        ("4.7.1 Greylisted for 5 minutes", 300),
        ("Greylisting in action, please come back in 00:05:00", 300),
        ("try again in 04:59", 299),
        ("Please retry after 90s", 90),
        ("4.2.0 Recipient address rejected: retry in 1 hour 30 min", 5400),
        ("Try again later in 2 minutes and 30 seconds.", 150),
        ("Please wait 60 seconds before trying again", 60),
        ("Too fast: 15 minutes before you retry, please", 900),
        ("resend in 10 min", 600),
        ("TRY AGAIN IN 3 HOURS", 10800),
    ],
)
def test_the_time_that_a_server_asks_for_is_understood(text: str, seconds: float) -> None:
    assert retry_hint(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "4.7.1 Try again later",
        "100 messages in 60 seconds is too much, try again later",
        "rate limit: 10 per 5 minutes",
        "connection timed out after 30 seconds",
        "try again. Error 451 5 minutes of fame",
        "retry in 0 seconds",
        "retry in 999999 hours",
        "try again from 192.0.2.5 maybe",
        "",
    ],
)
def test_a_number_that_is_no_request_gives_no_hint(text: str) -> None:
    assert retry_hint(text) is None


@given(st.text(max_size=300), st.integers(200, 599))
def test_no_text_makes_the_readers_fail(text: str, code: int) -> None:
    status = enhanced_status(code, text)
    assert status is None or status.startswith(str(code // 100))
    hint = retry_hint(text)
    assert hint is None or hint > 0


@pytest.mark.parametrize("piece", ["try ", "1 s ", "1s,", "again again ", "greylist", "1:11", "9" * 50, "try 1 m and "])
def test_hostile_texts_take_bounded_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    began = time.perf_counter()
    retry_hint(text)
    enhanced_status(550, text)
    assert time.perf_counter() - began < 0.25
