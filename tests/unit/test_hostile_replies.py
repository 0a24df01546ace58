"""What a server may answer: any bytes, in any pieces. Bounded in time and memory, and never a crash."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sluice.adapters.rules import load_rules
from sluice.adapters.smtp.reply import MAX_LINE, MAX_REPLY, MAX_TEXT, Garbage, Reply, ReplyReader
from sluice.domain.bounce import classify
from sluice.domain.replies import enhanced_status, retry_hint
from sluice.domain.smtp import Replied

RULES = load_rules()
hard = settings(max_examples=300, deadline=None)
lines = st.builds(
    lambda code, sep, text, end: code + sep + text + end,
    st.one_of(
        st.sampled_from([b"250", b"354", b"421", b"451", b"550", b"199", b"600", b"25", b"2500"]), st.binary(max_size=4)
    ),
    st.sampled_from([b" ", b"-", b"", b"\t", b"\x00"]),
    st.one_of(st.binary(max_size=30), st.sampled_from([b"5.1.1 no", b"4.7.0 try again in 5 minutes", b"x" * 20_000])),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b"", b"\n\r"]),
)


def read(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    reader, found = ReplyReader(), []
    try:
        for piece in pieces:
            for reply in reader.feed(piece):
                found.append(reply)  # noqa: PERF402  what came before the garbage counts
    except Garbage:
        return found, True
    return found, False


@hard
@given(st.lists(st.one_of(lines, st.binary(max_size=40)), max_size=12), st.data())
@example([b"250-a\r\n", b"\r\n"], None)
@example([b"-1 x\r\n"], None)
def test_any_bytes_are_replies_or_garbage_however_they_are_cut(parts: list[bytes], data: st.DataObject | None) -> None:
    whole = b"".join(parts)
    expected = read([whole])
    if data is not None and len(whole) > 1:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert read(pieces) == expected
    for reply in expected[0]:
        assert 200 <= reply.code <= 599
        replied = reply.at("rcpt")
        assert len(replied.text) <= MAX_TEXT
        assert replied.text.isprintable() or not any(
            ord(character) < 32 or ord(character) == 127 for character in replied.text
        )
        verdict = classify(RULES.bounces, replied, site="google")
        assert verdict.action in ("deliver", "defer", "bounce", "in_doubt")


@pytest.mark.parametrize(
    "endless",
    [b"2" * 1000, b"250-more and more\r\n" * 50, b"250-\r\n" * 150, b"\x00" * 1000],
    ids=["a line", "a reply", "an empty reply", "zeros"],
)
def test_a_reply_without_end_is_given_up_in_bounded_memory(endless: bytes) -> None:
    reader, fed = ReplyReader(), 0
    with pytest.raises(Garbage):  # noqa: PT012  which piece is too much is not known
        while fed < 50 * MAX_REPLY:
            list(reader.feed(endless))
            fed += len(endless)
    assert len(reader._rest) <= MAX_LINE + len(endless)
    assert fed <= 2 * MAX_REPLY


@hard
@given(st.integers(200, 599), st.text(max_size=200))
@example(450, "retry " * 200)
@example(451, "try again in " + "9" * 6 + " hours " * 100)
def test_what_a_reply_means_is_found_for_any_text(code: int, text: str) -> None:
    status = enhanced_status(code, text)
    assert status is None or status[0] == str(code)[0]
    hint = retry_hint(text)
    assert hint is None or 0 < hint <= 7 * 86_400
    classify(RULES.bounces, Replied("dot", code, text, status), site="")


@pytest.mark.parametrize(
    "piece", ["try again ", "a", " ", "1 minute, ", "wait wait 1:", "5.1.", "again 1 hour and ", "<", "%"]
)
def test_no_text_makes_its_reading_slow(piece: str) -> None:
    """Patterns that go back and forth over a long text would; rules come from people."""
    text = (piece * (MAX_TEXT // len(piece) + 1))[:MAX_TEXT]
    began = time.process_time()
    for code in (250, 421, 450, 550):
        retry_hint(text)
        classify(RULES.bounces, Replied("rcpt", code, text, enhanced_status(code, text)), site="google")
    assert time.process_time() - began < 2.0
