"""What compose does with a send event: stories over the twins."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.compose import PARTITIONS, Worker

from sluice.adapters.jinja.renderer import JinjaRenderer
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.domain.content import Rendered
from sluice.domain.idempotency import guard_partition
from sluice.domain.reference import Template, TemplateContent
from sluice.domain.site import lane_partition
from sluice.domain.topics import DEAD, IDEMPOTENCY, READY, SEND, SUPPRESSIONS, WHEEL
from sluice.ports.intake import Taken
from sluice.ports.resolver import MxHosts


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """A worker whose tenant does not sign."""
    return Worker(tmp_path)


def at(worker: Worker, seconds: float) -> str:
    """A moment from now, RFC 3339."""
    return datetime.fromtimestamp(worker.clock.now() + seconds, UTC).isoformat()


async def test_an_event_becomes_a_mail_in_its_lane_s_partition(worker: Worker) -> None:
    """With the outcome in the partition of the same number, where deliver keeps its ledger."""
    await worker.send(worker.event())
    home = lane_partition("site.example#0", PARTITIONS)
    assert len(worker.bus.stored[READY["normal"], home]) == 1
    assert len(worker.bus.stored["mail.outcome", home]) == 1
    assert worker.only.event_type == "composed"
    assert worker.mails[0].envelope.rcpt_to == "ann@site.example"
    assert worker.done == [0]


async def test_several_recipients_become_one_mail_each_with_ids_of_their_own(worker: Worker) -> None:
    """Bcc stands in no header."""
    await worker.send(
        worker.event(
            to=[{"email": "a@x.example"}, {"email": "b@y.example"}],
            cc=[{"email": "c@z.example"}],
            bcc=[{"email": "secret@w.example"}],
        )
    )
    assert sorted(mail.envelope.message_id for mail in worker.mails) == ["m1.0", "m1.1", "m1.2", "m1.3"]
    assert all(b"secret" not in mail.content for mail in worker.mails)
    assert all(b"Cc: c@z.example\r\n" in mail.content for mail in worker.mails)


async def test_variables_of_tenant_profile_event_and_recipient_meet_in_the_template(worker: Worker) -> None:
    """Whoever is nearer to the mail wins."""
    worker.catalogue.apply(
        "ref.profiles", b"acme|ann@site.example",
        b'{"tenant_id":"acme","email":"ann@site.example","variables":{"name":"from profile"}}',
    )  # fmt: skip
    event = worker.event(subject=None, text=None, template={"id": "hello"})
    await worker.send(event)
    assert b"Acme greets from profile" in worker.mails[0].content
    event["to"][0]["variables"] = {"name": "Ann"}
    await worker.send({**event, "message_id": "m2"})
    assert b"Subject: Hello Ann" in worker.mails[1].content


async def test_a_missing_variable_is_named_and_the_other_recipient_gets_the_mail(worker: Worker) -> None:
    """What is wrong with one does not touch the others."""
    await worker.send(
        worker.event(
            subject=None,
            text=None,
            template={"id": "hello"},
            to=[{"email": "a@x.example"}, {"email": "b@y.example", "variables": {"name": "B"}}],
        )
    )
    by_id = {outcome.message_id: outcome for outcome in worker.outcomes}
    assert by_id["m1.0"].event_type == "rejected"
    assert "name" in (by_id["m1.0"].reason or "")
    assert by_id["m1.1"].event_type == "composed"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown tenant": ({"tenant_id": "nobody"}, "tenant_id"),
    "unknown template": ({"subject": None, "text": None, "template": {"id": "nope"}}, "template.id"),
    "no recipient domain": ({"to": [{"email": "ann"}]}, "to[0].email"),
    "line feed in the subject": ({"subject": "Hi\nBcc: x@y.example"}, "subject"),
    "carriage return in a name": ({"to": [{"email": "a@x.example", "name": "A\rB"}]}, "to[0].name"),
    "NUL in a header": ({"headers": {"X-A": "a\x00b"}}, "headers.X-A"),
    "line feed in an encoded word": ({"subject": "=?UTF-8?Q?=0A?=Bcc: x@y.example"}, "subject"),
    "a header of ours": ({"headers": {"Bcc": "x@y.example"}}, "headers.Bcc"),
    "too large": ({"attachments": [{"filename": "a", "content": "QUJD" * 10_000_000}]}, "attachments"),
    "foreign sender": ({"from": {"email": "ceo@bank.example"}}, "from.email"),
    "wrong type": ({"to": "ann@site.example"}, "to"),
    "missing field": ({"to": None}, "to"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_rejected_by_the_name_of_its_field_and_the_stream_goes_on(worker: Worker, name: str) -> None:
    """Nothing is lost, nothing is stuck, no byte of it is sent."""
    given, field = BAD[name]
    await worker.take(worker.record(worker.event(**given)), worker.record(worker.event("good")))
    rejected, composed = sorted(worker.outcomes, key=lambda outcome: outcome.event_type, reverse=True)
    assert (rejected.event_type, rejected.field) == ("rejected", field)
    assert rejected.message_id == "m1"
    assert rejected.reason
    assert "@" not in rejected.reason
    assert composed.message_id == "good"
    assert worker.done == [0, 1]


@pytest.mark.parametrize("junk", [b"not json", b"", b"\xff\xfe", b"[" * 100_000, b"[1]"])
async def test_bytes_that_are_no_event_are_buried_whole(worker: Worker, junk: bytes) -> None:
    """With the reason, and where they came from, so that they can be replayed."""
    await worker.take(worker.record(junk), worker.record(worker.event("good")))
    (dead,) = worker.bus.all(DEAD)
    assert dead.value == junk
    assert dict(dead.headers)["sluice-origin"] == b"mail.send.normal:0:0"
    assert {outcome.event_type for outcome in worker.outcomes} == {"dead", "composed"}
    assert sorted(worker.done) == [0, 1]


async def test_an_event_read_too_late_expires(worker: Worker) -> None:
    """Old events read again send nothing."""
    await worker.send(worker.event(expires_at=at(worker, -5)))
    assert (worker.only.event_type, worker.only.field) == ("expired", "expires_at")


async def test_a_suppressed_recipient_gets_nothing_and_the_outcome_says_why(worker: Worker) -> None:
    """Per tenant and stream."""
    worker.catalogue.apply(
        SUPPRESSIONS, b"acme|*|ann@site.example",
        b'{"tenant_id":"acme","email":"ann@site.example","reason":"bounced: invalid_recipient",'
        b'"created_at":"2026-01-01T00:00:00Z"}',
    )  # fmt: skip
    await worker.send(worker.event())
    assert (worker.only.event_type, worker.only.reason) == ("suppressed", "bounced: invalid_recipient")
    assert worker.mails == []


async def test_a_missing_signing_key_is_the_operators_fault_and_the_event_is_kept(tmp_path: Path) -> None:
    """Unsigned mail is not sent; it can be replayed when the key is there."""
    worker = Worker(tmp_path, tenant={"signing": [{"domain": "acme.example", "selector": "s1"}]})
    await worker.send(worker.event())
    assert (worker.only.event_type, worker.only.fault) == ("dead", "operator")
    assert len(worker.bus.all(DEAD)) == 1
    assert worker.mails == []


async def test_a_scheduled_event_waits_as_it_is_and_is_composed_when_due(worker: Worker) -> None:
    """Rendered then, with the variables of then; the wait is told from the publication."""
    record = worker.record(worker.event(send_at=at(worker, 3600)))
    published = worker.clock.now()
    await worker.take(record)
    assert worker.only.event_type == "scheduled"
    (waiting,) = worker.bus.all(WHEEL["1h"])
    assert dict(waiting.headers)["return-to"] == b"mail.send.normal:0"
    await worker.clock.advance(3600)
    back = Taken(record.topic, 0, 50, b"k", waiting.value, waiting.headers, worker.clock.now())
    await worker.take(back)
    assert len(worker.mails) == 1
    assert worker.mails[0].envelope.queued_at == pytest.approx(published, abs=0.01)


class Keyed:
    """Events with one idempotency key, at the partition that guards it."""

    home = guard_partition("acme", "order-7", PARTITIONS)

    @staticmethod
    def event(worker: Worker, message_id: str, **given: Any) -> dict[str, Any]:
        """An event with the key."""
        return worker.event(message_id, idempotency_key="order-7", **given)


async def test_the_same_key_twice_gives_one_mail(worker: Worker) -> None:
    """The second is refused by name."""
    for message_id in ("m1", "m2"):
        await worker.send(Keyed.event(worker, message_id), partition=Keyed.home)
    assert len(worker.mails) == 1
    refused = next(outcome for outcome in worker.outcomes if outcome.message_id == "m2")
    assert (refused.event_type, refused.field, refused.category) == ("rejected", "idempotency_key", "duplicate")
    assert "m1" in (refused.reason or "")


async def test_the_same_key_with_another_body_is_an_error(worker: Worker) -> None:
    """Whatever differs, the recipient's domain included."""
    await worker.send(Keyed.event(worker, "m1"), partition=Keyed.home)
    await worker.send(Keyed.event(worker, "m2", to=[{"email": "bob@elsewhere.example"}]), partition=Keyed.home)
    refused = next(outcome for outcome in worker.outcomes if outcome.message_id == "m2")
    assert refused.category == "idempotency_conflict"


async def test_keys_survive_a_restart_and_the_event_itself_is_not_its_own_repeat(tmp_path: Path) -> None:
    """Killed after the mail was stored, before the commit: read again, composed again, recognised by deliver."""
    worker = Worker(tmp_path)
    await worker.send(Keyed.event(worker, "m1"), partition=Keyed.home)
    successor = Worker(tmp_path, bus=worker.bus, clock=worker.clock)
    await successor.send(Keyed.event(worker, "m1"), partition=Keyed.home)
    assert len(successor.mails) == 2
    assert len({mail.envelope.message_id for mail in successor.mails}) == 1
    await successor.send(Keyed.event(worker, "m2"), partition=Keyed.home)
    assert [outcome.category for outcome in successor.outcomes if outcome.message_id == "m2"] == ["duplicate"]
    assert len(worker.bus.stored[IDEMPOTENCY, Keyed.home]) == 1


async def test_an_event_at_the_wrong_partition_goes_to_the_one_that_guards_its_key(worker: Worker) -> None:
    """Producers that know nothing of guards use their client's partitioner."""
    await worker.send(Keyed.event(worker, "m1"), partition=(Keyed.home + 1) % PARTITIONS)
    assert worker.mails == []
    assert worker.outcomes == []
    assert len(worker.bus.stored[SEND["normal"], Keyed.home]) == 1
    assert worker.done == [0]


async def test_a_refused_event_does_not_use_its_key_up(worker: Worker) -> None:
    """The corrected one may follow."""
    await worker.send(Keyed.event(worker, "m1", to=[{"email": "ann"}]), partition=Keyed.home)
    await worker.send(Keyed.event(worker, "m2"), partition=Keyed.home)
    assert len(worker.mails) == 1


async def test_urgent_events_are_composed_before_a_bulk_backlog(worker: Worker) -> None:
    """And bulk is not starved."""
    bulk = [worker.record(worker.event(f"b{number}"), priority="bulk") for number in range(30)]
    high = [worker.record(worker.event(f"h{number}"), priority="high") for number in range(30)]
    await worker.take(*bulk, *high)
    order = worker.done[:34]
    assert sum(offset >= 30 for offset in order) == 30
    assert any(offset < 30 for offset in order)


async def test_domains_with_the_same_hosts_share_a_lane(tmp_path: Path) -> None:
    """Site roll-up by MX set."""
    hosts = MxHosts(((10, "mx1.host.example"), (20, "mx2.host.example")), 300.0)
    worker = Worker(tmp_path, routes="*=mx", resolver=MemoryResolver({"a.example": hosts, "b.example": hosts}, {}))
    for number, domain in enumerate(("a.example", "b.example")):
        await worker.send(worker.event(f"m{number}", to=[{"email": f"u@{domain}"}]))
    assert {mail.envelope.lane for mail in worker.mails} == {"mx1.host.example#0"}


class BrokenRenderer(JinjaRenderer):
    """A renderer with a defect that one template meets."""

    def render(self, template: Template, content: TemplateContent, variables: Mapping[str, Any]) -> Rendered:
        """Fail as no renderer should."""
        raise ZeroDivisionError


async def test_a_step_that_raises_on_one_event_buries_it_with_the_reason(tmp_path: Path) -> None:
    """Row 6: never skipped, never stuck."""
    worker = Worker(tmp_path, renderer=BrokenRenderer())
    odd = worker.event("odd", subject=None, text=None, template={"id": "hello"})
    await worker.take(worker.record(odd), worker.record(worker.event("good")))
    by_id = {outcome.message_id: outcome for outcome in worker.outcomes}
    assert (by_id["odd"].event_type, by_id["odd"].fault) == ("dead", "operator")
    assert "ZeroDivisionError" in (by_id["odd"].reason or "")
    assert by_id["good"].event_type == "composed"
    assert len(worker.bus.all(DEAD)) == 1
    assert sorted(worker.done) == [0, 1]


async def test_the_time_before_composing_is_told_by_reason(worker: Worker) -> None:
    """An hour by the event's own wish, two seconds behind others."""
    record = worker.record(worker.event(send_at=at(worker, 3600)))
    await worker.take(record)
    (waiting,) = worker.bus.all(WHEEL["1h"])
    await worker.clock.advance(3602)
    await worker.take(Taken(record.topic, 0, 50, b"k", waiting.value, waiting.headers, worker.clock.now()))
    waits = worker.mails[0].progress.waits
    assert waits.schedule == pytest.approx(3_600_000, abs=5)
    assert waits.queue == pytest.approx(2_000, abs=5)
