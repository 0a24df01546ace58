"""What compose does with a record of ``mail.send.*``: whose it is, what was said of its key, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog

from sluice.compose.naming import names
from sluice.compose.origins import origin_of, published, source_of
from sluice.compose.sites import Sites
from sluice.compose.step import Composer, Origin, message_ids, rfc3339
from sluice.compose.turns import Turns
from sluice.domain.admission import Admitted
from sluice.domain.conclusion import Recorder
from sluice.domain.errors import Refused, Undecodable
from sluice.domain.events import SendEvent, decode_send
from sluice.domain.idempotency import guard_partition
from sluice.domain.outcome import Fault, Outcome
from sluice.domain.repeats import Seen, SeenKeys, body_digest, encode_seen, seen_key
from sluice.domain.site import lane_partition
from sluice.domain.topics import IDEMPOTENCY, OUTCOME, READY
from sluice.domain.window import Range
from sluice.domain.yielding import Yielding
from sluice.ports.bus import Bus, Record
from sluice.ports.clock import Clock
from sluice.ports.intake import Done, Taken
from sluice.ports.load import Load
from sluice.ports.records import dead_record, outcome_record, ready_record, wheel_record
from sluice.ports.seen import SeenLog
from sluice.ports.signer import SigningKeyMissing
from sluice.ports.spans import Spans
from sluice.ports.unsettled import Unsettled

log = structlog.get_logger(__name__)
AT_ONCE = 1.0
"""Seconds: what is scheduled for so soon is composed now rather than sent through the wheel."""


class ComposeHandler:
    """Takes send events by weighted priority and publishes what follows from each before calling it done."""

    def __init__(
        self,
        *,
        composer: Composer,
        recorder: Recorder,
        sites: Sites,
        seen_log: SeenLog,
        bus: Bus,
        clock: Clock,
        load: Load,
        yielding: Yielding = Yielding(),  # noqa: B008  frozen
        fatal: Callable[[BaseException], None],
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._composer = composer
        self._recorder = recorder
        self._sites = sites
        self._seen_log = seen_log
        self._bus = bus
        self._clock = clock
        self._unsettled = Unsettled(fatal)
        self._turns = Turns(self._begin, clock=clock, load=load, yielding=yielding)
        self._seen: dict[int, SeenKeys] = {}

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """Load the idempotency keys that the partition guards."""
        began = self._clock.now()
        keys = await self._seen_log.load(partition, began)
        self._seen[partition] = keys
        log.info("keys.loaded", partition=partition, keys=len(keys), seconds=round(self._clock.now() - began, 3))
        return {}

    def take(self, record: Taken, done: Done) -> None:
        """Queue an event by its priority."""
        self._turns.add(record, done)

    async def revoked(self, partitions: set[int]) -> None:
        """Drop what has not begun; wait for what is being published."""
        self._turns.drop(partitions)
        await self._unsettled.settled()
        for partition in partitions:
            self._seen.pop(partition, None)

    async def compose_forever(self) -> None:
        """Compose what comes, urgent first (:class:`Turns`)."""
        await self._turns.take_forever()

    def _begin(self, record: Taken, done: Done) -> None:
        """Handle one record; whatever is wrong with it must not stop the others."""
        try:
            self._handle(record, origin_of(record), done)
        except Undecodable as error:
            self._undecodable(record, error, done)
        except Exception as error:
            self._broken(record, error, done)

    def _handle(self, record: Taken, origin: Origin, done: Done) -> None:
        event = decode_send(record.value or b"")
        key = event.idempotency_key
        if key is not None:
            owner = guard_partition(event.tenant_id, key, self._bus.partitions(record.topic))
            if owner != record.partition:
                headers = published(record, origin)
                self._publish(done, Record(record.topic, record.value, record.key, headers, owner))
                return
        now = self._clock.now()
        try:
            remember = self._judge_key(event, record, now)
            admitted = self._composer.admit(event, origin, now)
        except Refused as error:
            self._refuse(event, error, origin, done)
            return
        if remember is not None:
            self._seen[record.partition].add(*remember)
        kept = [] if remember is None else [_seen_record(*remember, record.partition)]
        if admitted.send_at is not None and admitted.send_at - now > AT_ONCE:
            self._schedule(record, admitted, origin, done, kept)
            return
        unknown = {each.address.domain_ascii for each in admitted.wanted} - set(self._sites_known(admitted))
        if unknown:
            self._unsettled.run(self._compose_after_lookup(unknown, record, admitted, origin, done, kept))
        else:
            self._compose(record, admitted, origin, done, kept)

    def _judge_key(self, event: SendEvent, record: Taken, now: float) -> tuple[bytes, Seen] | None:
        """What to remember of the event's idempotency key; raises :class:`Refused` for a repeat."""
        if event.idempotency_key is None:
            return None
        key = seen_key(event.tenant_id, event.idempotency_key)
        digest = body_digest(record.value or b"")
        judgement, earlier = self._seen[record.partition].judge(key, event.message_id, digest, now)
        if judgement == "repeat":
            raise Refused("idempotency_key", f"repeats {earlier}, which had the same body", "duplicate")
        if judgement == "conflict":
            raise Refused("idempotency_key", f"was used by {earlier} with another body", "idempotency_conflict")
        return (key, Seen(event.message_id, digest, now)) if judgement == "new" else None

    def _sites_known(self, admitted: Admitted) -> Iterable[str]:
        for delivery in admitted.wanted:
            if self._sites.known(delivery.address.domain_ascii) is not None:
                yield delivery.address.domain_ascii

    async def _compose_after_lookup(
        self, domains: set[str], record: Taken, admitted: Admitted, origin: Origin, done: Done, kept: list[Record]
    ) -> None:
        await asyncio.gather(*(self._sites.find(domain) for domain in domains))
        try:
            self._compose(record, admitted, origin, done, kept)
        except Exception as error:
            self._broken(record, error, done)

    def _compose(self, record: Taken, admitted: Admitted, origin: Origin, done: Done, kept: list[Record]) -> None:
        now = self._clock.now()
        span = None
        if self._spans is not None:
            span = self._spans.composing(origin.traceparent, record.topic, admitted.event.message_id, now)
        if span is not None:
            origin = msgspec.structs.replace(origin, traceparent=span.traceparent)
        time = rfc3339(now)
        records: list[Record] = []
        patient = self._turns.backlogged(origin.priority)
        composed = self._composer.compose(admitted, origin, now)
        if span is not None:
            span.end([made.outcome.event_type for made in composed], self._clock.now())
        for made in composed:
            if made.mail is None:
                records.append(self._outcome(made.outcome))
                continue
            envelope = made.mail.envelope
            partition = lane_partition(envelope.lane, self._bus.partitions(READY[envelope.priority]))
            records.append(
                ready_record(made.mail, partition, time=time, traceparent=origin.traceparent, patient=patient)
            )
            records.append(outcome_record(made.outcome, partition, patient=patient))
        if origin.redrive is not None:
            records.append(self._outcome(self._composer.driven(admitted, origin.redrive, origin, now)))
        self._publish(done, *records, *kept)

    def _schedule(self, record: Taken, admitted: Admitted, origin: Origin, done: Done, kept: list[Record]) -> None:
        now = self._clock.now()
        until = admitted.send_at or now
        headers = published(record, origin)
        entry = wheel_record(record, headers, until, now, f"{record.topic}:{record.partition}")
        outcomes = [
            self._recorder.of_event(
                admitted.event, delivery.message_id, "scheduled", now,
                priority=origin.priority, queued_at=origin.published_at, recipient=delivery.address,
                next_attempt_at=until, trace_id=origin.trace_id, source=origin.source, redrive=origin.redrive,
            )
            for delivery in admitted.wanted
        ]  # fmt: skip
        self._publish(done, entry, *kept, *map(self._outcome, outcomes))

    def _refuse(self, event: SendEvent, error: Refused, origin: Origin, done: Done) -> None:
        now = self._clock.now()
        one = origin.redrive is not None and origin.redrive.only is not None
        names = [event.message_id] if one else message_ids(event)
        refusals = [self._composer.refused(event, each, error, origin, now) for each in names]
        self._publish(done, *map(self._outcome, refusals))

    def _undecodable(self, record: Taken, error: Undecodable, done: Done) -> None:
        """An event that can be told apart is rejected by name; bytes that cannot are kept as a dead letter."""
        message_id, tenant_id = names(record)
        if message_id is None:
            self._bury(record, done, field=error.field, reason=str(error))
            return
        outcome = self._recorder.of_record(
            message_id, tenant_id, "rejected", self._clock.now(), field=error.field, reason=error.reason,
            source=source_of(record),
        )  # fmt: skip
        self._publish(done, self._outcome(outcome))

    def _broken(self, record: Taken, error: Exception, done: Done) -> None:
        """The event is as it should be and a step failed on it: kept for after the fix."""
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if isinstance(error, SigningKeyMissing):
            log.error("event.unsigned", error=str(error), **where)
            self._bury(record, done, field="from.email", reason=str(error), category="signing", fault="operator")
        else:
            log.exception("event.step_failed", **where)
            reason = f"{type(error).__name__}: {error}"
            self._bury(record, done, field="value", reason=reason, category="step_failed", fault="operator")

    def _bury(
        self,
        record: Taken,
        done: Done,
        *,
        field: str,
        reason: str,
        category: str = "undecodable",
        fault: Fault = "producer",
    ) -> None:
        message_id, tenant_id = names(record)
        where = f"{record.topic}:{record.partition}:{record.offset}"
        now = self._clock.now()
        outcome = self._recorder.of_record(
            message_id or where, tenant_id, "dead", now, field=field, reason=reason, category=category, fault=fault,
            source=source_of(record),
        )  # fmt: skip
        self._publish(done, dead_record(record, reason), self._outcome(outcome))

    def _outcome(self, outcome: Outcome) -> Record:
        """An outcome without a lane: any partition will do, the same one for the same mail."""
        return outcome_record(outcome, lane_partition(f"{outcome.message_id}#0", self._bus.partitions(OUTCOME)))

    def _publish(self, done: Done, *records: Record) -> None:
        """Publish records in order, and call ``done`` when all are durable."""
        self._unsettled.when_stored([self._bus.publish(record) for record in records], done)


def _seen_record(key: bytes, seen: Seen, partition: int) -> Record:
    return Record(IDEMPOTENCY, encode_seen(seen), key, [], partition)
