"""Reading replies, whatever the bytes are and however they are cut."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.smtp.capabilities import read_capabilities
from sluice.adapters.smtp.reply import MAX_LINE, MAX_REPLY, Garbage, Reply, ReplyReader

texts = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20)
replies = st.tuples(st.integers(200, 599), st.lists(texts, min_size=1, max_size=4))
pieces = st.lists(
    st.sampled_from([b"250", b"-", b" ", b"\r\n", b"\n", b"550 no", b"\x00", b"\xff", b"x" * 5000, b"250-a\r\n"])
)


def encoded(code: int, lines: list[str]) -> bytes:
    *more, last = lines
    return "".join([f"{code}-{line}\r\n" for line in more] + [f"{code} {last}\r\n"]).encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def read(parts: list[bytes]) -> tuple[list[Reply], bool]:
    """The replies, and whether there was garbage behind them."""
    reader, found = ReplyReader(), []
    with contextlib.suppress(Garbage):
        for part in parts:
            for reply in reader.feed(part):
                found.append(reply)  # noqa: PERF402  those before garbage count
        return found, False
    return found, True


@given(st.lists(replies, max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_whole_replies_come_out_in_order_however_they_are_cut(
    said: list[tuple[int, list[str]]], places: list[int]
) -> None:
    data = b"".join(encoded(*reply) for reply in said)
    found, garbage = read(cut(data, places))
    assert not garbage
    assert [(reply.code, len(reply.lines)) for reply in found] == [(code, len(lines)) for code, lines in said]


@given(pieces, st.lists(st.integers(0, 50_000), max_size=6))
def test_any_bytes_give_replies_or_garbage_the_same_however_they_are_cut(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    whole, cut_up = read([data]), read(cut(data, places))
    assert whole[0] == cut_up[0]
    assert all(not set("\r\n\x00") & set(line) for reply in whole[0] for line in reply.lines)
    if whole[0]:
        assert read_capabilities(whole[0][0]) is not None


@given(st.binary(max_size=200))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    read([data])


def test_an_endless_reply_takes_bounded_memory() -> None:
    tracemalloc.start()
    for chunk in (b"250-more\r\n" * 100, b"x" * 1000, b"250-" + b"y" * 900 + b"\r\n"):
        _, garbage = read([chunk] * 100_000)
        assert garbage
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * (MAX_LINE + MAX_REPLY)


def test_a_reply_is_kept_to_a_thousand_characters() -> None:
    (reply,), _ = read([b"250-" + b"x" * 900 + b"\r\n250 " + b"y" * 900 + b"\r\n"])
    ended = reply.at("dot")
    assert len(ended.text) == 1_000
    assert ended.text.startswith("x")
