"""Records that somebody made up to hurt: each is refused by name or buried, and the stream goes on."""

from __future__ import annotations

import asyncio
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support import compose, deliver
from tests.support.hostile import hostile, odd_headers, odd_text

from sluice.adapters.clickhouse.rows import outcome_row
from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.follower import MemoryFollower
from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.events import decode_send
from sluice.domain.ledger import Ledger, decode_checkpoint, decode_entry
from sluice.domain.mail import ENVELOPE, NOT_BEFORE, PROGRESS, PUBLISHED_AT, RETURN_TO
from sluice.domain.repeats import SeenKeys, decode_seen
from sluice.domain.sharing import decode_report
from sluice.domain.topics import DEAD, OUTCOME, READY, REFERENCE, SEND, WHEEL
from sluice.ports.held import still_held
from sluice.ports.intake import Taken
from sluice.ports.outcomes import Batch, Slice
from sluice.record.step import sort_out
from sluice.wheel.turner import WheelTurner

hard = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
slow = settings(hard, max_examples=50)
DEEP = b'{"a":' * 20_000
EVENT: dict[str, Any] = {
    "message_id": "m1",
    "tenant_id": "acme",
    "from": {"email": "shop@acme.example", "name": "Acme"},
    "to": [{"email": "ann@site.example", "name": "Ann", "locale": "en", "variables": {"name": "Ann"}}],
    "cc": [{"email": "c@site.example"}],
    "reply_to": {"email": "r@acme.example"},
    "return_path": "b@acme.example",
    "subject": "Hi",
    "text": "Hello\n",
    "html": "<p>Hello</p>",
    "idempotency_key": "k",
    "headers": {"X-Tag": "a"},
    "metadata": {"order": "1"},
    "tags": ["a"],
    "attachments": [{"filename": "a.txt", "content": "aGVsbG8=", "content_type": "text/plain"}],
    "unsubscribe": {"list_id": "l", "url": "https://acme.example/u"},
    "send_at": "2027-01-15T09:00:00Z",
    "expires_at": "2027-01-16T09:00:00Z",
    "in_doubt": "hold",
    "priority": "normal",
}
BY_TEMPLATE = {name: value for name, value in EVENT.items() if name not in ("subject", "html", "text", "send_at")} | {
    "template": {
        "id": "hello",
        "version": 1,
        "locale": "en",
        "variables": {"name": "Ann", "more": {"a": [1, {"b": 2}]}},
    }
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No keys are needed: the tenant signs nothing."""
    return tmp_path_factory.mktemp("keys")


def compose_one(keys: Path, value: bytes, headers: list[tuple[str, bytes]]) -> compose.Worker:
    """One record through a compose worker, with an ordinary one behind it."""

    async def go() -> compose.Worker:
        worker = compose.Worker(keys)
        await worker.take(worker.record(value, headers=headers), worker.record(worker.event("behind")))
        for _ in range(200):
            await asyncio.sleep(0)
        return worker

    return asyncio.run(go())


@slow
@given(value=st.one_of(hostile(EVENT), hostile(BY_TEMPLATE)), headers=odd_headers)
@example(value=b"{}", headers=[(PUBLISHED_AT, b"9" * 400)])
@example(value=b"{}", headers=[(PUBLISHED_AT, b"9" * 5000)])
@example(
    value=b'{"message_id":"m","tenant_id":"acme","to":[{"email":"a@b.example"}],"subject":"x","text":"x"}',
    headers=[(PUBLISHED_AT, b"9" * 20)],
)
@example(value=DEEP, headers=[])
def test_no_event_stops_compose(keys: Path, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    worker = compose_one(keys, value, headers)
    assert worker.failures == []
    assert sorted(worker.done) == [0, 1]
    assert "behind" in {outcome.message_id for outcome in worker.outcomes}
    elsewhere = [record for topic in (DEAD, *SEND.values()) for record in worker.bus.all(topic)]
    assert elsewhere or len({outcome.message_id for outcome in worker.outcomes}) >= 2, "it left no trace"


_envelope: dict[str, Any] = {
    "message_id": "m1", "rfc5322_message_id": "m1@acme.example", "tenant_id": "acme", "stream": "transactional",
    "priority": "normal", "mail_from": "from@acme.example", "rcpt_to": "m1@site.example", "domain": "site.example",
    "site": "site.example", "lane": "site.example#0", "size": 20, "queued_at": 1.8e9, "composed_at": 1.8e9,
    "expires_at": 1.8e9 + 86_400, "tags": ["a"], "metadata": {"k": "v"}, "in_doubt": "resend", "campaign_id": "c",
}  # fmt: skip
_progress: dict[str, Any] = {
    "attempt": 1, "round": 1, "waits": {"queue": 5, "retry": 7}, "slot": 1.8e9, "slot_of": "site", "since": 1.8e9,
    "reason": "retry",
}  # fmt: skip


@slow
@given(
    envelope=hostile(_envelope),
    progress=hostile(_progress),
    content=st.one_of(st.just(b"A: b\r\n\r\nx\r\n"), st.binary(max_size=50)),
    more=odd_headers,
)
@example(envelope=DEEP, progress=b"{}", content=b"", more=[])
@example(envelope=b"{}", progress=DEEP, content=b"", more=[])
def test_no_ready_mail_stops_deliver(
    envelope: bytes, progress: bytes, content: bytes, more: list[tuple[str, bytes]]
) -> None:
    async def go() -> deliver.Worker:
        worker = deliver.Worker()
        home = worker.record(worker.envelope("behind"), offset=1)
        headers = [(ENVELOPE, envelope), (PROGRESS, progress), *more]
        bad = Taken(READY["normal"], home.partition, 0, b"k", content, headers, 1.8e9)
        await worker.take(bad, home)
        await worker.clock.advance(30.0)
        await worker.settle()
        await worker.close()
        return worker

    worker = asyncio.run(go())
    assert worker.failures == []
    assert sorted(worker.done) == [0, 1]
    assert "behind" in {outcome.message_id for outcome in worker.outcomes("delivered")}


@hard
@given(
    not_before=st.one_of(st.binary(max_size=25), st.integers(-(10**30), 10**30).map(lambda n: str(n).encode())),
    return_to=st.one_of(odd_text.map(lambda text: text.encode("utf-8", "replace")), st.sampled_from([
        b"mail.ready.normal:0", b"mail.ready.normal:99", b"mail.ready.normal:-1", b"mail.outcome", b"mail.send.bulk"
    ])),
)  # fmt: skip
@example(not_before=b"9" * 400, return_to=b"mail.send.normal")
@example(not_before=b"9" * 5000, return_to=b"mail.send.normal")
@example(not_before=b"0", return_to=b"mail.ready.normal:99")
@example(not_before=b"0", return_to=b"mail.ready.normal:" + b"9" * 5000)
@example(not_before=b"0", return_to="mail.ready.normal:\u0663".encode())
def test_no_wheel_record_stops_the_wheel(not_before: bytes, return_to: bytes) -> None:
    async def go() -> MemoryBus:
        counts = dict.fromkeys((*WHEEL.values(), DEAD), 1) | dict.fromkeys((*READY.values(), *SEND.values()), 4)
        bus, clock, follower = MemoryBus(counts), MemoryClock(), MemoryFollower()
        turner = WheelTurner(follower, bus, clock)
        at = clock.now()
        good = [(NOT_BEFORE, str(int(at * 1000)).encode()), (RETURN_TO, b"mail.ready.high:1")]
        topic = WHEEL["10s"]
        follower.put(Taken(topic, 0, 0, b"k", b"v", [(NOT_BEFORE, not_before), (RETURN_TO, return_to)], at - 20))
        follower.put(Taken(topic, 0, 1, b"k", b"v", good, at - 20))
        for _ in range(3):
            await turner.turn()
            await clock.advance(20.0)
        return bus

    bus = asyncio.run(go())
    assert len(bus.all("mail.ready.high")) >= 1
    for topic, partition in bus.stored:
        assert partition < (1 if topic in WHEEL.values() or topic == DEAD else 4), (topic, partition)


OUTCOME_EVENT: dict[str, Any] = {
    "event_id": "e", "event_type": "deferred", "event_time": "2026-01-01T00:00:00Z", "message_id": "m",
    "tenant_id": "t", "priority": "high", "recipient": "a@b.example", "attempt": 1,
    "smtp": {"code": 451, "phase": "rcpt", "text": "later"},
    "queued_at": "2026-01-01T00:00:00Z", "waits": {"queue": 4}, "duration_ms": 3.5, "size_bytes": 10,
    "next_attempt_at": "2026-01-01T01:00:00Z", "tls": {"policy": "dane", "version": "TLSv1.3"}, "metadata": {"a": "b"},
    "source": {"topic": "mail.ready.high", "partition": 0, "offset": 5, "round": 1}, "tags": ["x"],
}  # fmt: skip


@hard
@given(hostile(OUTCOME_EVENT))
@example(DEEP)
@example(
    b'{"event_type":"deferred","message_id":"m","source":{"topic":"t","partition":0,"offset":1},"next_attempt_at":"0001-01-01T00:00:00"}'
)
def test_no_outcome_stops_record_or_a_ledgers_reading(value: bytes) -> None:
    entry = Taken(OUTCOME, 0, 7, b"k", value, [], 1.8e9)
    result = sort_out(Batch(OUTCOME, [Slice(0, 7, 7, [entry])]))
    assert len(result.outcomes) + len(result.undecodable) == 1
    for recorded in result.outcomes:
        row = outcome_row(recorded)
        assert math.isfinite(row.duration_ms)
        assert row.event_time.year >= 1900
    ledger = Ledger()
    try:
        ledger.replay(decode_entry(value))
    except Undecodable:
        return
    ledger.take("m", 0, ("mail.ready.high", 5))


CHECKPOINT: dict[str, Any] = {
    "finished": {"mail.ready.high": [[5, 9], [11, 11]]},
    "started": [["mail.ready.high", 10]],
    "lanes": {"a#0": {"at": 1.8e9, "node": "n"}},
}


@hard
@given(hostile(CHECKPOINT))
@example(DEEP)
def test_no_checkpoint_stops_a_ledgers_reading(value: bytes) -> None:
    ledger = Ledger()
    try:
        ledger.restore(decode_checkpoint(value))
    except Undecodable:
        return
    ledger.take("m", 0, ("mail.ready.high", 10))


REFERENCES: list[dict[str, Any]] = [
    {"tenant_id": "acme", "domains": ["acme.example"], "from": {"email": "a@acme.example"}, "rate": "5/s",
     "signing": [{"domain": "acme.example", "selector": "s"}], "variables": {"a": {"b": [1]}}, "in_doubt": "hold"},
    {"tenant_id": "acme", "template_id": "hello", "version": 2,
     "locales": {"en": {"subject": "x", "html": "<p>{{ a }}"}}},
    {"tenant_id": "acme", "email": "a@b.example", "variables": {"a": 1}, "locale": "de", "timezone": "Europe/Berlin"},
    {"tenant_id": "acme", "email": "a@b.example", "reason": "r", "created_at": "2026-01-01T00:00:00Z",
     "expires_at": "2026-01-01T00:00:00Z", "stream": "broadcast"},
    {"site": "google", "reason": "r", "by": "jo", "at": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
]  # fmt: skip


@hard
@given(
    topic=st.sampled_from(REFERENCE),
    key=st.one_of(
        st.binary(max_size=20), st.sampled_from([b"acme", b"acme|hello|2", b"google", b"acme|*|a@b.example"])
    ),
    value=st.sampled_from(REFERENCES).flatmap(hostile),
)
@example(topic="ref.tenants", key=b"acme", value=b'{"tenant_id":"acme","domains":[],"variables":' + b"[" * 50_000)
@example(topic="ref.profiles", key=b"\xff", value=DEEP)
def test_no_reference_record_stops_those_who_follow(topic: str, key: bytes, value: bytes) -> None:
    """What was known before stays, and what is looked up is never anything but what its type says."""
    catalogue = Catalogue()
    try:
        catalogue.apply(topic, key, value)
    except Undecodable:
        assert not catalogue.tenants
    catalogue.tenant("acme")
    catalogue.template("acme", "hello", None)
    catalogue.profile("acme", "a@b.example")
    catalogue.suppressed("acme", "broadcast", "a@b.example", 1.8e9)
    assert catalogue.suspended_until("google") >= -1e12
    catalogue.apply(topic, key, None)


@hard
@given(hostile({"message_id": "m", "digest": "ab" * 16, "at": 1.8e9}))
@example(DEEP)
def test_no_idempotency_record_stops_who_loads_them(value: bytes) -> None:
    try:
        seen = decode_seen(value)
    except Undecodable:
        return
    keys = SeenKeys(86_400.0, 10)
    keys.add(b"k", seen)
    keys.judge(b"k", "x", "cd" * 16, 1.8e9)


@hard
@given(hostile({"node": "n", "claims": {"tenant:a": {"demand": 1.0, "held": 0.5, "asked": 0.7}}}))
@example(DEEP)
def test_no_demand_stops_who_shares(value: bytes) -> None:
    with_error = None
    try:
        decode_report(value)
    except Undecodable as error:
        with_error = error
    assert with_error is None or with_error.field


@hard
@given(value=st.one_of(st.none(), st.binary(max_size=30)), headers=odd_headers, envelope=hostile(_envelope))
def test_no_dead_letter_stops_the_list_of_held_mails(
    value: bytes | None, headers: list[tuple[str, bytes]], envelope: bytes
) -> None:
    reason = ("sluice-reason", b"held in doubt: x")
    letter = Taken(DEAD, 0, 0, None, value, [*headers, reason, (ENVELOPE, envelope)], 1.8e9)
    assert len(still_held([letter, letter])) <= 1


@pytest.mark.parametrize("item", [b"[]", b"{}", b"1.5", b'"ab"'])
def test_an_event_of_millions_of_values_is_refused_before_it_is_decoded(item: bytes) -> None:
    """A gigabyte of memory for 40 MB of JSON, and for each worker that reads the record again."""
    value = b'{"message_id":"m","tenant_id":"t","to":[{"email":"a@b.example"}],"template":{"id":"t","variables":{"a":['
    value += b",".join([item] * 8_000_000)
    tracemalloc.start()
    with pytest.raises(Undecodable, match="too many values"):
        decode_send(value + b"]}}}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(value)


def test_a_large_text_is_no_reason_to_refuse() -> None:
    event = {**EVENT, "text": "Dear reader, {it} is [long], and has commas, " * 40_000}
    assert decode_send(json.dumps(event).encode()).text == event["text"]
