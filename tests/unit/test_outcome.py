"""The outcome event: its identity, its encoding, and what is refused on reading."""

import json
from datetime import UTC, datetime

import pytest

from sluice.domain.errors import Undecodable
from sluice.domain.outcome import (
    FINAL,
    Outcome,
    SmtpReply,
    Source,
    decode_outcome,
    encode_outcome,
    event_id,
    moment,
)

OUTCOME = Outcome(
    event_id="0" * 32,
    event_type="delivered",
    event_time=moment(1_780_300_000.1234),
    message_id="m-1",
    tenant_id="acme",
    attempt=1,
    smtp=SmtpReply(250, "dot", "2.0.0 已收到", "2.0.0"),
    source=Source("mail.ready.high", 3, 17),
)


def test_an_outcome_is_read_back_as_it_was_written():
    assert decode_outcome(encode_outcome(OUTCOME)) == OUTCOME


def test_fields_at_their_default_are_not_written():
    assert set(json.loads(encode_outcome(OUTCOME))) == {
        "event_id", "event_type", "event_time", "message_id", "tenant_id", "attempt", "smtp", "source",
    }  # fmt: skip


def test_unknown_fields_are_tolerated():
    document = {**json.loads(encode_outcome(OUTCOME)), "future": [1], "smtp": {"code": 250, "phase": "dot", "new": 1}}
    assert decode_outcome(json.dumps(document).encode()).event_type == "delivered"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_type": "lost"}, "event_type"),
        ({"event_time": "2026-06-01T09:00:00"}, "event_time"),
        ({"smtp": {"phase": "dot"}}, "smtp.code"),
        ({"smtp": {"code": "250", "phase": "dot"}}, "smtp.code"),
        ({"source": {"topic": "t", "partition": 1}}, "source.offset"),
        ({"waits": {"rate": "long"}}, "waits.rate"),
        ({"tags": [1]}, "tags[0]"),
        ({"fault": "nobody"}, "fault"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, field):
    with pytest.raises(Undecodable) as caught:
        decode_outcome(json.dumps({**json.loads(encode_outcome(OUTCOME)), **change}).encode())
    assert caught.value.field == field


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"future":' + b"[" * 100_000])
def test_what_is_not_json_is_named_value(value):
    with pytest.raises(Undecodable) as caught:
        decode_outcome(value)
    assert caught.value.field == "value"


def test_the_same_fact_has_the_same_id_and_another_fact_another():
    facts = ("m-1", "deferred", "mail.ready.high", 3, 17)
    assert event_id("m-1", "deferred", 1) == event_id("m-1", "deferred", 1)
    assert len(event_id(*facts)) == 32
    others = {event_id("m-1", "deferred", 1, 2), event_id("m-1", "deferred", 12), event_id("m-1", "bounced", 1, 2)}
    assert len(others) == 3


def test_the_id_of_a_fact_never_changes():
    """Stored rows are recognised by it: a new version that computed another would count old facts twice."""
    assert event_id("m-1", "delivered", "mail.ready.high", 3, 17, 0) == "25cfda975f979962e2058e04effcb91e"


def test_moments_are_utc_to_the_millisecond():
    assert moment(1_780_300_000.12345) == datetime(2026, 6, 1, 7, 46, 40, 123000, tzinfo=UTC)


def test_what_is_final_is_not_what_may_still_change():
    assert FINAL.isdisjoint({"accepted", "scheduled", "composed", "attempted", "deferred", "in_doubt", "held"})
