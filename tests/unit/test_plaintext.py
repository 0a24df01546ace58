"""HTML read out as text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.plaintext import plain_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain", "plain\n"),
        ("<p>One</p><p>Two<br>Three", "One\n\nTwo\nThree\n"),
        ("<ul><li>a</li><li>b</li></ul>c", "- a\n- b\n\nc\n"),
        ("<tr><td>a</td><td>b</td></tr>", "a b\n"),
        ("a &amp; b &lt;c&gt; &nbsp; d", "a & b <c> d\n"),
        ("<a href='https://x.example/?a&amp;b'>here</a>", "here (https://x.example/?a&b)\n"),
        (
            "<a href=https://x.example>https://x.example</a> <a href='mailto:a@b.c'>a@b.c</a>",
            "https://x.example a@b.c\n",
        ),
        ("<a href='https://x.example'><img src=x></a>", "https://x.example\n"),
        ("<a href='#top'>up</a>", "up\n"),
        ("<head><title>t</title></head><body>b", "b\n"),
        ("<head><title>t</title><body>b", "b\n"),
        ("<style>p { x > y }</style>a<script>if (a < b) {}</script>b", "ab\n"),
        ("a<!-- <b>not</b> > --> b<!-- open", "a b\n"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2\n"),
        ("你好<br>世界", "你好\n世界\n"),
    ],
)
def test_html_is_read_out(html: str, text: str) -> None:
    assert plain_text(html) == text


@given(
    st.lists(
        st.sampled_from(["<", ">", "<p>", "</a>", "<a href='x'>", "<!--", "-->", "&", "text", "<script>", '"', "\n"])
    )
)
def test_anything_is_read_out(pieces: list[str]) -> None:
    text = plain_text("".join(pieces))
    assert text == "" or text.endswith("\n")
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<a ",
        "<!--",
        "<a href='",
        "<p>",
        "<a href=x>",
        "</a>",
        "<a href=x>y</a>",
        "&#",
        "<script>",
        " \n",
        "<a href= ",
    ],
)
def test_hostile_html_takes_linear_time(unit: str) -> None:
    started = time.process_time()
    plain_text(unit * (1_000_000 // len(unit)))
    assert time.process_time() - started < 5
