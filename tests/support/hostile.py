"""Input that somebody made up to hurt: JSON that is almost right, and bytes that are nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

DEEP = "@deeply nested@"
"""In a value's place: brackets, thousands deep."""
_DEPTH = 20_000

odd_text = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="\r\n\0\t .@<>\"'\\%=?;,:\u2028\u202e\ud800ä", max_size=20),
    st.sampled_from(
        ["", "a" * 5000, "@", "a@b", "=?utf-8?q?=0d=0a?=", "9" * 5000, "x@" + "a." * 500 + "b", "#", "a#", "a#-1"]
    ),
    st.sampled_from(
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"]
    ),
)
odd_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, -1, 2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, -1e308, 1e-320, float("inf"), float("nan")]
    ),
    st.floats(),
)
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, odd_text, st.just(DEEP)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(odd_text, inner, max_size=4)),
    max_leaves=6,
)
odd_headers = st.lists(
    st.tuples(st.text(max_size=10), st.one_of(st.binary(max_size=30), st.just(b"9" * 5000), st.just(b"\xff\x00"))),
    max_size=4,
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += _places(inner, (*at, number))
    return found


@st.composite
def almost(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """``good`` as JSON, with a few values replaced, taken away or added, or cut off somewhere."""
    body = copy.deepcopy(good)
    for _ in range(draw(st.integers(0, 3))):
        places = _places(body)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        holder: Any = body
        for step in way:
            holder = holder[step]
        what = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if what == "remove" and isinstance(holder, dict):
            del holder[last]
        elif what == "add" and isinstance(holder, dict):
            holder[draw(odd_text)] = draw(odd_values)
        else:
            holder[last] = draw(odd_values)
    text = json.dumps(body).replace(json.dumps(DEEP), "[" * _DEPTH + "]" * _DEPTH).encode()
    return text if draw(st.integers(0, 9)) else text[: draw(st.integers(0, len(text)))]


def hostile(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes in the place of a JSON object like ``good``."""
    return st.one_of(
        almost(good), st.binary(max_size=60), st.sampled_from([b"", b"null", b"[]", b"{}", b'"', b"{" * 50_000])
    )
