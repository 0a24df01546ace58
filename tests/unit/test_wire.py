"""Bytes on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.wire import bare_line_end, dot_stuffed, sendable_path

lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\r", b".").replace(b"\n", b".")), max_size=8)


@given(lines)
def test_a_receiver_gets_back_exactly_what_was_sent(parts: list[bytes]) -> None:
    """Unstuffing as RFC 5321 section 4.5.2 tells the receiver, the first lone dot ending the mail."""
    content = b"".join(part + b"\r\n" for part in parts)
    received = b""
    rest = dot_stuffed(content)
    while True:
        line, _, rest = rest.partition(b"\r\n")
        if line == b".":
            break
        received += line.removeprefix(b".") + b"\r\n"
    assert received == content
    assert rest == b""


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n.a\r\n", b"...\r\n..a\r\n.\r\n"),
        (b"no end", b"no end\r\n.\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n.\r\n"),
    ],
)
def test_leading_dots_are_doubled(content: bytes, wire: bytes) -> None:
    assert dot_stuffed(content) == wire


@pytest.mark.parametrize("content", [b"a\nb", b"a\rb", b"\r\n.\n", b"a\r\r\n", b"\n", b"\r", b"\r\n\r", b"\n\r"])
def test_a_lone_cr_or_lf_is_seen(content: bytes) -> None:
    assert bare_line_end(content)


@pytest.mark.parametrize("content", [b"", b"\r\n", b"a\r\n\r\nb", b"a" * 5000])
def test_crlf_alone_is_fine(content: bytes) -> None:
    assert not bare_line_end(content)


@pytest.mark.parametrize("address", ["a@b.example", "a+b@[192.0.2.1]", '"a b>"@c.example', "用户@例え.jp", "a=b@c"])
def test_addresses_that_stay_in_their_path(address: str) -> None:
    assert sendable_path(address)


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@b> NOTIFY=NEVER", "a@b\r\nDATA", "a\x00@b", "a@b<c", '"a"@b> X=1', "a b@c", '"a\r\n"@b', "a@b\n"],
)
def test_addresses_that_would_leave_it_are_seen(address: str) -> None:
    assert not sendable_path(address)
