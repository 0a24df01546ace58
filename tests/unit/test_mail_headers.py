"""The header set of a mail on its way: written, read back, and described by its schema."""

import json
import typing
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.domain.errors import Undecodable
from sluice.domain.mail import (
    ENVELOPE,
    NOT_BEFORE,
    PROGRESS,
    RETURN_TO,
    Envelope,
    Mail,
    Progress,
    Waits,
    read_mail,
    ready_headers,
    with_progress,
)

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "ready-headers.v1.schema.json").read_text())
HEADERS = jsonschema_rs.Draft202012Validator(SCHEMA, validate_formats=True)
TIME = "2026-06-01T09:00:00.123+00:00"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

ENVELOPE_LEAST = Envelope(
    message_id="m-1",
    rfc5322_message_id="m-1@acme.example",
    tenant_id="acme",
    stream="transactional",
    priority="high",
    mail_from="bounces@acme.example",
    rcpt_to="jo@mail.example",
    domain="mail.example",
    site="mail.example",
    lane="mail.example/0",
    size=2,
    queued_at=1.0,
    composed_at=2.0,
    expires_at=3.0,
)


def _content(header: str) -> jsonschema_rs.Validator:
    schema = {"$defs": SCHEMA["$defs"], **SCHEMA["properties"][header]["contentSchema"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


CONTENT = {header: _content(header) for header in (ENVELOPE, PROGRESS)}


def _drawn(struct: type[msgspec.Struct]) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(struct)
    return st.builds(struct, **{name: _plain(hint) for name, hint in hints.items()})


def _plain(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    if hint in (float, float | None):
        numbers = st.floats(0, 32_503_679_999)
        return numbers if hint is float else st.none() | numbers
    if hint is int:
        return st.integers(0, 2**31 - 1)
    return _drawn(Waits) if hint is Waits else st.from_type(hint)


MAILS = st.builds(Mail, _drawn(Envelope), st.binary(max_size=50), _drawn(Progress))


@settings(deadline=None, max_examples=60)
@given(MAILS)
def test_a_mail_is_read_back_as_it_was_written(mail):
    headers = ready_headers(mail, time=TIME, traceparent=TRACE)
    assert read_mail(headers, mail.content) == mail


@settings(deadline=None, max_examples=60)
@given(MAILS)
def test_what_is_written_is_valid_by_the_schema(mail):
    texts = {name: value.decode() for name, value in ready_headers(mail, time=TIME, traceparent=TRACE)}
    if mail.envelope.message_id:
        HEADERS.validate(texts)
    for header, validator in CONTENT.items():
        validator.validate(json.loads(texts[header]))


@pytest.mark.parametrize("header", [ENVELOPE, PROGRESS])
@settings(deadline=None, max_examples=200)
@given(mail=MAILS, data=st.data())
def test_schema_and_reader_agree_on_damaged_headers(header, mail, data):
    headers = dict(ready_headers(mail, time=TIME))
    document = json.loads(headers[header])
    fields = sorted(SCHEMA["$defs"]["Envelope" if header == ENVELOPE else "Progress"]["properties"])
    odd = data.draw(
        st.sampled_from(
            [None, True, 0, -1, 1.5, 10**30, "", "bulk", "hold", "transactional", [], [1], ["a"], {}, {"a": 1}]
        )
    )
    document[data.draw(st.sampled_from(fields))] = odd
    if data.draw(st.booleans()):
        document.pop(data.draw(st.sampled_from(sorted(document))))
    headers[header] = json.dumps(document).encode()
    try:
        read_mail(headers.items(), b"")
    except Undecodable as error:
        by_reader, named = False, error.field
    else:
        by_reader, named = True, header
    assert by_reader == CONTENT[header].is_valid(document)
    assert named == header


def test_a_missing_envelope_is_named():
    with pytest.raises(Undecodable) as caught:
        read_mail([(PROGRESS, b"{}")], b"")
    assert caught.value.field == ENVELOPE


@pytest.mark.parametrize("header", [ENVELOPE, PROGRESS])
@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"\xff", b"{" * 5])
def test_a_header_that_is_not_what_it_should_be_is_named(header, value):
    headers = dict(ready_headers(Mail(ENVELOPE_LEAST, b""), time=TIME))
    headers[header] = value
    with pytest.raises(Undecodable) as caught:
        read_mail(headers.items(), b"")
    assert caught.value.field == header


def test_a_mail_without_progress_has_made_no_attempt():
    headers = [pair for pair in ready_headers(Mail(ENVELOPE_LEAST, b""), time=TIME) if pair[0] != PROGRESS]
    assert read_mail(headers, b"").progress == Progress()


def test_new_progress_replaces_the_old_and_takes_the_wheel_headers_off():
    headers = ready_headers(Mail(ENVELOPE_LEAST, b"", Progress(attempt=1)), time=TIME, traceparent=TRACE)
    waiting = [*headers, (NOT_BEFORE, b"1780300000000"), (RETURN_TO, b"mail.ready.high:3")]
    HEADERS.validate({name: value.decode() for name, value in waiting})
    moved = with_progress(waiting, Progress(attempt=2, round=1))
    assert [name for name, _ in moved] == [name for name, _ in headers if name not in (PROGRESS, "traceparent")] + [
        "traceparent",
        PROGRESS,
    ]
    assert read_mail(moved, b"").progress == Progress(attempt=2, round=1)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_type", "sluice.send.v1"),
        ("ce_specversion", "0.3"),
        ("ce_id", ""),
        ("ce_time", "yesterday"),
        ("content-type", "text/plain"),
        ("traceparent", "00-xyz"),
        (NOT_BEFORE, "-1"),
        (RETURN_TO, "mail.ready.high:"),
    ],
)
def test_the_schema_refuses_a_wrong_header(header, value):
    texts = {name: text.decode() for name, text in ready_headers(Mail(ENVELOPE_LEAST, b""), time=TIME)}
    assert HEADERS.is_valid(texts)
    assert not HEADERS.is_valid({**texts, header: value})


def test_waits_add_up_by_reason():
    waits = Waits().plus("rate", 1.4).plus("rate", 2.0).plus("queue", -5)
    assert (waits.rate, waits.queue) == (3, 0)
