"""The send event's decoder: what it refuses, and how it names the place."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import Undecodable
from sluice.domain.events import decode_send, locate

LEAST = {"message_id": "m-1", "tenant_id": "acme", "to": [{"email": "jo@mail.example"}]}


def _bytes(**fields):
    return json.dumps({**LEAST, **fields}).encode()


def _with(text: bytes) -> bytes:
    """The least event with ``text`` as its further members, byte for byte."""
    return b'{"message_id":"m-1","tenant_id":"acme","to":[{"email":"jo@mail.example"}],' + text + b"}"


def _refused(value: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode_send(value)
    return caught.value


def test_the_least_event_has_defaults():
    event = decode_send(_bytes())
    assert (event.stream, event.cc, event.template, event.in_doubt) == ("transactional", [], None, None)


def test_unknown_fields_are_tolerated_at_every_level():
    event = decode_send(_bytes(colour="red", to=[{"email": "jo@mail.example", "shoe_size": 43}]))
    assert event.to[0].email == "jo@mail.example"


@pytest.mark.parametrize("missing", ["message_id", "tenant_id", "to"])
def test_a_missing_field_is_named(missing):
    error = _refused(json.dumps({name: value for name, value in LEAST.items() if name != missing}).encode())
    assert error.field == missing
    assert "missing" in error.reason


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"to": [{"email": "jo@mail.example"}, {"email": 7}]}, "to[1].email"),
        ({"to": [{"name": "Jo"}]}, "to[0].email"),
        ({"to": []}, "to"),
        ({"to": "jo@mail.example"}, "to"),
        ({"to": [{"email": "x" * 321}]}, "to[0].email"),
        ({"from": "jo@mail.example"}, "from"),
        ({"from": {"name": "Jo"}}, "from.email"),
        ({"message_id": ""}, "message_id"),
        ({"message_id": "a b"}, "message_id"),
        ({"tenant_id": "x" * 129}, "tenant_id"),
        ({"stream": "marketing"}, "stream"),
        ({"in_doubt": "maybe"}, "in_doubt"),
        ({"template": {"version": 1}}, "template.id"),
        ({"template": {"id": "x", "version": 0}}, "template.version"),
        ({"template": {"id": "x", "version": 1.5}}, "template.version"),
        ({"template": {"id": "x", "version": True}}, "template.version"),
        ({"template": {"id": "x", "version": 10**30}}, "template.version"),
        ({"template": {"id": "x", "variables": []}}, "template.variables"),
        ({"subject": "x" * 999}, "subject"),
        ({"cc": None}, "cc"),
        ({"tags": ["a", "b", "x" * 129]}, "tags[2]"),
        ({"headers": {"X-Good": "a", "X-Bad": 1}}, "headers.X-Bad"),
        ({"headers": {"X-Long": "x" * 999}}, "headers.X-Long"),
        ({"metadata": {"order": ["A-1"]}}, "metadata.order"),
        ({"attachments": [{"filename": "a", "content": "%%%"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": "aGk"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": "", "sha256": "AB"}]}, "attachments[0].sha256"),
        ({"attachments": [{"filename": "a", "content": "", "content_type": "text"}]}, "attachments[0].content_type"),
        ({"unsubscribe": {"one_click": "yes"}}, "unsubscribe.one_click"),
        ({"tracking": {"opens": 1}}, "tracking.opens"),
        ({"send_at": "2026-06-01T09:00:00"}, "send_at"),
        ({"send_at": "tomorrow"}, "send_at"),
        ({"send_at": 1_780_300_000}, "send_at"),
        ({"expires_at": "2026-02-30T09:00:00Z"}, "expires_at"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(fields, path):
    assert _refused(_bytes(**fields)).field == path


@pytest.mark.parametrize("field", ["message_id", "tenant_id", "campaign_id"])
def test_an_identifier_ends_where_it_seems_to(field):
    """``$`` in Python also matches before a final line break, which would travel into keys and headers."""
    assert _refused(_bytes(**{field: "m-1\n"})).field == field


def test_a_media_type_and_a_digest_end_where_they_seem_to():
    for extra in ({"content_type": "text/plain\n"}, {"sha256": "0" * 64 + "\n"}):
        error = _refused(_bytes(attachments=[{"filename": "a", "content": "", **extra}]))
        assert error.field == f"attachments[0].{next(iter(extra))}"


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "1969-12-31T00:00:00Z"])
def test_a_moment_that_arithmetic_would_overflow_on_is_refused(moment):
    for field in ("send_at", "expires_at"):
        assert _refused(_bytes(**{field: moment})).field == field


@pytest.mark.parametrize(
    "name", ["jo@mail.example", "a`b", "x" * 65, "line\nbreak", "名"], ids=["address", "quote", "long", "line", "other"]
)
def test_the_name_of_an_entry_is_not_repeated_when_it_may_be_content(name):
    assert _refused(_bytes(metadata={name: 1})).field == "metadata[...]"


def test_what_the_producer_wrote_is_not_repeated_in_the_reason():
    error = _refused(_bytes(stream="jo@mail.example"))
    assert "jo@" not in str(error)


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"nonsense", b"\xff\xfe", b"\xef\xbb\xbf{}", _bytes() + b"x", _bytes() + b"\x00", _bytes()[:-1]],
    ids=["empty", "open", "word", "utf16", "bom", "trailing", "nul", "cut"],
)
def test_what_is_not_json_is_named_value(value):
    error = _refused(value)
    assert error.field == "value"
    assert error.reason.startswith("not JSON")


@pytest.mark.parametrize("value", [b"[]", b"null", b"7", b'"text"'])
def test_json_that_is_no_object_is_named_value(value):
    assert _refused(value).field == "value"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"+1"])
def test_numbers_that_json_does_not_have_are_refused(number):
    assert _refused(_with(b'"template":{"id":"x","variables":{"n":' + number + b"}}")).field == "value"


@pytest.mark.parametrize("number", [b"1e400", b"9" * 5000])
def test_numbers_beyond_any_range_are_refused_with_their_place(number):
    assert (
        _refused(_with(b'"template":{"id":"x","variables":{"n":' + number + b"}}")).field == "template.variables[...]"
    )


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("place", [b'"unknown":%s', b'"template":{"id":"x","variables":{"deep":%s}}'])
def test_deep_nesting_is_refused_without_a_crash(depth, place):
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = opening * depth + b"1" + closing * depth
        error = _refused(_with(place % nested))
        assert (error.field, error.reason) == ("value", "nested too deeply")


@pytest.mark.parametrize(
    "text", [rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"\ud800A", rb"\udc00\ud800", b"\xed\xa0\x80"], ids=repr
)
@pytest.mark.parametrize(
    "place",
    [
        b'"subject":"%s"',
        b'"metadata":{"a":"%s"}',
        b'"metadata":{"%s":"a"}',
        b'"template":{"id":"x","variables":{"a":["%s"]}}',
        b'"template":{"id":"x","variables":{"%s":1}}',
    ],
)
def test_a_lone_surrogate_never_becomes_text(text, place):
    """Such a string cannot be encoded as UTF-8, so it would fail far from here."""
    assert _refused(_with(place % text)).field == "value"


def test_a_surrogate_pair_is_the_character_it_stands_for():
    assert decode_send(_with(rb'"subject":"\ud83d\ude00"')).subject == "😀"


def test_of_a_name_given_twice_the_last_counts():
    assert decode_send(_with(b'"subject":"first","subject":"second"')).subject == "second"
    assert _refused(_with(b'"headers":{"X-A":1},"headers":[]')).field == "headers[...]"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_undecodable(value):
    with contextlib.suppress(Undecodable):
        decode_send(value)


@given(st.data())
def test_no_damage_to_an_event_raises_anything_but_undecodable(data):
    value = bytearray(_bytes(subject="Grüße 你好", metadata={"a": "b"}, send_at="2026-06-01T09:00:00Z"))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Undecodable):
        (decode_send(bytes(value)).subject or "").encode()


@given(st.text())
def test_locate_always_finds_a_path(message):
    field, _ = locate(message)
    assert field
