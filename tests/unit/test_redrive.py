"""Which mails may be driven again, how a plan stands, and what a driven mail's event says."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.domain.errors import Undecodable
from sluice.domain.ledger import Entry, Fresh, Ledger
from sluice.domain.outcome import Source
from sluice.domain.redrive import (
    Action,
    Candidate,
    Count,
    Options,
    Word,
    counted,
    exclusion,
    listed,
    seconds_needed,
    standing,
)
from sluice.domain.redriven import REDRIVE, Redrive, drive_again, driven_id, driven_key, read_redrive
from sluice.domain.shaping import Rate

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEPT = {("mail.send.normal", 0): 10}


def mail(message_id: str = "m1", **fields: Any) -> Candidate:
    given = {"state": "bounced", "content": Source("mail.send.normal", 0, 10), **fields}
    return Candidate(tenant_id="acme", message_id=message_id, **given)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"state": "expired"}, None),
        ({"state": "rejected", "category": "template"}, None),
        ({"state": "dead"}, None),
        ({"state": "cancelled"}, None),
        ({"state": "delivered"}, "delivered"),
        ({"state": "delivered", "driven_by": "p0"}, "delivered"),
        ({"driven_by": "p0"}, "driven"),
        ({"driven_by": "p1"}, None),
        ({"in_doubt": True}, "in_doubt"),
        ({"suppressed": True}, "suppressed"),
        ({"state": "suppressed"}, "suppressed"),
        ({"state": "waiting"}, "waiting"),
        ({"state": "rejected", "category": "duplicate"}, "duplicate"),
        ({"state": "rejected", "category": "idempotency_conflict"}, "duplicate"),
        ({"expires_at": NOW}, "expired"),
        ({"expires_at": NOW + timedelta(seconds=1)}, None),
        ({"content": None}, "content"),
        ({"content": Source("mail.send.normal", 0, 9)}, "content"),
        ({"content": Source("mail.send.normal", 1, 10)}, "content"),
    ],
)
def test_a_mail_is_driven_unless_there_is_a_reason_not_to(fields: dict[str, Any], reason: str | None) -> None:
    assert exclusion(mail(**fields), plan="p1", now=NOW, first_kept=KEPT) == reason


def test_a_list_is_in_the_order_the_mails_came_in_and_counted_by_site_and_category() -> None:
    found = [mail("m3", site="b"), mail("m1", site="a"), mail("m2", site="b"), mail("m0", site="a")]
    items = listed([(each, "delivered" if each.message_id == "m0" else None) for each in found])
    assert [(item.number, item.mail.message_id, item.excluded) for item in items] == [
        (0, "m1", None),
        (1, "m2", None),
        (2, "m3", None),
        (0, "m0", "delivered"),
    ]
    assert counted(items) == ([Count("b", "", 2), Count("a", "", 1)], {"delivered": 1})


def said(*words: str) -> list[Word]:
    """``action``, or ``action:run``."""
    made = []
    for text in words:
        action, _, run = text.partition(":")
        options = Options(rate=f"{len(made)}/s") if action in ("start", "resume") else Options()
        kind: Action = action  # type: ignore[assignment]
        made.append(Word(plan_id="p", action=kind, by="jo", host="h", at=NOW, run=run, options=options))
    return made


@pytest.mark.parametrize(
    ("words", "state", "run"),
    [
        ("", "planned", ""),
        ("plan", "planned", ""),
        ("plan start:a", "running", "a"),
        ("plan start:a start:b", "running", "b"),
        ("plan start:a start:b stopped:a", "running", "b"),
        ("plan start:a start:b done:a", "running", "b"),
        ("plan start:a stopped:a", "paused", "a"),
        ("plan start:a pause", "paused", "a"),
        ("plan start:a pause resume:b", "running", "b"),
        ("plan start:a cancel", "cancelled", "a"),
        ("plan start:a cancel start:b", "cancelled", "a"),
        ("plan cancel", "cancelled", ""),
        ("plan start:a done:a", "done", "a"),
        ("plan start:a done:a pause start:b", "done", "a"),
    ],
)
def test_how_a_plan_stands_follows_from_what_was_said(words: str, state: str, run: str) -> None:
    stands = standing(said(*words.split()))
    assert (stands.state, stands.run) == (state, run)


def test_the_options_of_the_latest_start_hold() -> None:
    assert standing(said("plan", "start:a", "pause")).options == Options(rate="1/s")
    assert standing(said("plan")).options is None


def test_the_slowest_site_says_how_long_it_takes() -> None:
    rates = {"a": Rate(10, 1.0), "b": Rate(1, 60.0), "c": None}
    assert seconds_needed({"a": 100, "b": 3, "c": 10**9}, rates) == (180.0, "b")
    assert seconds_needed({"a": 100}, rates, Rate(1, 1.0)) == (100.0, "--rate")
    assert seconds_needed({"c": 5}, rates) == (0.0, "")


EVENT = {"message_id": "m1", "tenant_id": "acme", "to": [{"email": "a@x.example"}], "metadata": {"k": "v"}, "new": 1}


def again(event: Any, of: str = "m1", **fields: Any) -> Any:
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = [("ce_id", b"m1"), ("ce_source", b"shop"), ("sluice-published-at", b"1"), ("traceparent", b"t")]
    given = {"message_id": "n1", "template_version": None, "time": "2026-11-23T12:00:00Z", **fields}
    return drive_again(value, headers, Redrive("p1", of, egress="cold"), **given)


def test_a_driven_mails_event_is_the_first_one_under_another_id_and_key() -> None:
    made = again({**EVENT, "idempotency_key": "order-7"})
    assert json.loads(made.value) == {**EVENT, "message_id": "n1", "idempotency_key": driven_key("m1")}
    headers = dict(made.headers)
    assert (headers["ce_id"], headers["ce_source"], headers["ce_time"]) == (b"n1", b"shop", b"2026-11-23T12:00:00Z")
    assert headers.keys().isdisjoint(("sluice-published-at", "traceparent"))
    assert read_redrive(made.headers) == Redrive("p1", "m1", None, "cold")


def test_another_version_is_asked_for_where_there_is_a_template() -> None:
    with_template = {**EVENT, "template": {"id": "hello", "version": 1, "variables": {"a": 1}}}
    made = json.loads(again(with_template, template_version=7).value)
    assert made["template"] == {"id": "hello", "version": 7, "variables": {"a": 1}}
    assert "template" not in json.loads(again(EVENT, template_version=7).value)


def test_of_an_event_with_several_recipients_one_is_meant() -> None:
    event = {**EVENT, "to": [{"email": "a@x.example"}, {"email": "b@x.example"}], "cc": [{"email": "c@x.example"}]}
    made = again(event, "m1.2")
    assert read_redrive(made.headers) == Redrive("p1", "m1.2", 2, "cold")
    assert json.loads(made.value)["to"] == event["to"]


@pytest.mark.parametrize("of", ["m2", "m1.1", "m1.x", "m1.-1", "m1.", "m", "m1.0.0"])
def test_a_record_of_another_mail_is_refused(of: str) -> None:
    with pytest.raises(Undecodable, match="another mail"):
        again(EVENT, of)


@pytest.mark.parametrize("value", [b"", b"nonsense", b"[]", b"{}", b'{"message_id": 7}', b"\xff", b"[" * 100_000])
def test_what_is_no_event_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable):
        again(value)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b'{"plan":"p"}', b'{"plan":"p p","of":"m"}', b'{"plan":"p","of":"m","only":-1}']
)
def test_a_header_that_says_nothing_readable_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable, match=REDRIVE):
        read_redrive([(REDRIVE, value)])
    assert read_redrive([("ce_id", b"x")]) is None


def test_ids_of_driven_mails_are_uuids_of_their_time_and_differ_by_plan_mail_and_run() -> None:
    at = NOW.timestamp()
    names = {driven_id(plan, of, run, at) for plan in "ab" for of in "cd" for run in "ef"}
    assert len(names) == 8
    assert {uuid.UUID(name).version for name in names} == {7}
    assert {int(name.replace("-", "")[:12], 16) for name in names} == {int(at * 1000)}
    assert driven_id("a", "c", "e", at) == driven_id("a", "c", "e", at)


def test_what_compose_says_of_an_event_is_nothing_to_the_ledger_of_mails() -> None:
    ledger = Ledger()
    for kind in ("dead", "expired", "suppressed"):
        ledger.replay(Entry(kind, "m1", Source("mail.send.normal", 0, 5)))  # type: ignore[arg-type]
    assert ledger.finished_by_topic() == {}
    assert ledger.take("m1", 0, ("mail.ready.normal", 5)) == Fresh()
