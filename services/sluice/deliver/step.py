"""One attempt: the sentence of this service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from sluice.deliver.books import Books
from sluice.deliver.exits import Exit, let_out
from sluice.deliver.item import Item
from sluice.deliver.lane import SITE_RATE, Lane
from sluice.domain.adaptive import THROTTLED
from sluice.domain.bounce import Verdict, classify
from sluice.domain.conclusion import Way
from sluice.domain.conversation import Transcript
from sluice.domain.ledger import Place
from sluice.domain.outcome import Outcome, OutcomeType
from sluice.domain.retry import next_attempt
from sluice.domain.rules import Rules
from sluice.domain.smtp import Broken, Phase, Replied, Result, Unknown
from sluice.domain.tls_sessions import TlsSession
from sluice.domain.triggers import Seen
from sluice.ports.clock import Clock
from sluice.ports.held import held_record
from sluice.ports.mailer import Connection, Transaction
from sluice.ports.spans import Spans, Tried

log = structlog.get_logger(__name__)
_FIRST: tuple[Phase, ...] = ("rset", "mail")
"""What is said first to a connection that took a mail before; RSET only after a refusal."""


class HandedBackError(Exception):
    """The mail's partition moved away before its content was sent."""


class Attempts:
    """Makes attempts and concludes them. ``spread`` gives numbers in [0, 1) that scatter retries."""

    def __init__(
        self, books: Books, clock: Clock, rules: Rules, spread: Callable[[], float], spans: Spans | None = None
    ) -> None:
        self._spans = spans
        self._books = books
        self._clock = clock
        self._rules = rules
        self._spread = spread
        self._unsent: set[tuple[int, Place]] = set()

    def follow(self, rules: Rules) -> None:
        """Other rules are in force, for replies that come from now on."""
        self._rules = rules

    async def make(
        self,
        item: Item,
        connection: Connection,
        lane: Lane,
        talk: Transcript,
        *,
        fresh: bool,
        sessions: tuple[TlsSession, ...] = (),
        exits: tuple[Exit, ...] = (),
    ) -> bool:
        """Hand one mail to the site; write down that it is tried before the site can have it, and its TLS ``sessions``.

        ``talk`` notes what is said; of a ``fresh`` connection it has the greeting already. ``exits`` are those of the
        limits that the mail is under.

        False, with the attempt not counted, when a connection that is not ``fresh`` turned out to be closed by then:
        servers end idle connections as they like, which says nothing about the mail.
        """
        if not await self._books.until_ours(item) or item.handed_back:
            raise HandedBackError
        envelope = item.mail.envelope
        started = self._clock.now()
        item.attempted(started)
        item.attempts += 1
        self._unsent.discard(place := (item.record.partition, (item.record.topic, item.record.offset)))
        way = Way(connection.host, connection.address, connection.tls, _egress(item))
        began = self._outcome(item, "attempted", started, way=msgspec.structs.replace(way, sessions=sessions))
        stored = self._books.record(began, item.record.partition)

        async def before_data() -> None:
            await stored
            if exits and await self._books.until_ours(item):
                talk.passed()
                talk.say("turn")
                await let_out(exits, self._clock, lambda: item.handed_back)
            if not await self._books.until_ours(item) or item.handed_back:
                self._unsent.add(place)
                raise HandedBackError

        lane.begin(item, started)
        try:
            transaction = Transaction(
                mail_from=envelope.mail_from,
                rcpt_to=envelope.rcpt_to,
                content=item.mail.content,
                smtputf8=envelope.smtputf8,
            )
            result = await connection.send(transaction, before_data=before_data, talk=talk)
        finally:
            lane.end(item, self._clock.now())
        if not fresh and _closed_while_idle(result):
            item.attempts -= 1
            item.waits_since = self._clock.now()
            return False
        self.conclude(item, result, lane, way, started, talk)
        return True

    def take_unsent(self, partition: int) -> list[Place]:
        """Records of a partition whose attempt was written down and handed back unsent: its next owner must know."""
        found = [place for number, place in self._unsent if number == partition]
        self._unsent -= {(partition, place) for place in found}
        return found

    def conclude(
        self, item: Item, result: Result, lane: Lane, way: Way, started: float, talk: Transcript | None = None
    ) -> None:
        """Decide what a result means for the mail and its lane, and write it down with what was said."""
        now = self._clock.now()
        if talk is not None:
            way = msgspec.structs.replace(way, conversation=talk.told())
        verdict = classify(self._rules.bounces, result, site=lane.site.name)
        self._teach(lane, item, result, verdict, now)
        if self._spans is not None:
            parts = () if talk is None else talk.parts
            tried = Tried(item.attempts, result, verdict, way, started, now, parts, item.waits)
            span_id = self._spans.tried(item.record.headers, item.mail.envelope, tried)
            if span_id is not None:
                way = msgspec.structs.replace(way, span_id=span_id)
        took = (now - started) * 1000
        if isinstance(result, Unknown):
            self._in_doubt(item, result, verdict, way, took)
        elif verdict.action == "deliver":
            self._finish(item, "delivered", result, verdict, way, took)
        elif verdict.action == "bounce":
            if verdict.suppress:
                self._books.suppress(item, f"bounced: {verdict.category}", now)
            self._finish(item, "bounced", result, verdict, way, took)
        else:
            self._again(item, result, verdict, way, took)

    def expire(self, item: Item) -> None:
        """Its time is over before it could be delivered."""
        outcome = self._outcome(item, "expired", self._clock.now(), category="expired")
        self._books.conclude(item, outcome)

    def broke(self, item: Item, error: Exception) -> None:
        """A step failed on this mail: set aside whole, for after the fix."""
        log.error("attempt.step_failed", message=item.mail.envelope.message_id, exc_info=error)
        reason = f"{type(error).__name__} in a step: see the log"
        outcome = self._outcome(item, "dead", self._clock.now(), category="step_failed", reason=reason)
        self._books.bury(item.record, reason, item.done, outcome)

    def doubt(self, item: Item, attempt: int) -> bool:
        """An earlier owner began an attempt that has no outcome. True when the mail is to be sent again."""
        now = self._clock.now()
        item.attempts = max(attempt, item.attempts + 1)
        reason = "an attempt began and its worker stopped before the outcome"
        outcome = self._outcome(item, "in_doubt", now, reason=reason)
        if item.mail.envelope.in_doubt == "hold":
            self._hold(item, outcome, reason, now)
            return False
        self._books.record(outcome, item.record.partition)
        return True

    def _again(self, item: Item, result: Result, verdict: Verdict, way: Way, took: float) -> None:
        now = self._clock.now()
        envelope = item.mail.envelope
        due = next_attempt(
            self._rules.retry.policy_for(envelope.priority, verdict.pace),
            attempt=item.attempts,
            now=now,
            expires_at=envelope.expires_at,
            hint=verdict.retry_after,
            spread=self._spread(),
        )
        if due is None:
            self._finish(item, "expired", result, verdict, way, took)
            return
        outcome = self._outcome(
            item, "deferred", now, result=result, verdict=verdict, way=way, duration_ms=took, next_attempt_at=due
        )
        self._books.put_off(item, due, "retry", outcome, now)

    def _in_doubt(self, item: Item, result: Unknown, verdict: Verdict, way: Way, took: float) -> None:
        now = self._clock.now()
        outcome = self._outcome(item, "in_doubt", now, result=result, verdict=verdict, way=way, duration_ms=took)
        if item.mail.envelope.in_doubt == "hold":
            self._hold(item, outcome, f"no reply after the final dot: {result.reason}", now)
            return
        self._books.record(outcome, item.record.partition)
        self._again(item, result, verdict, way, took)

    def _hold(self, item: Item, outcome: Outcome, reason: str, now: float) -> None:
        self._books.record(outcome, item.record.partition)
        self._books.keep(item, held_record(item.record, reason), self._outcome(item, "held", now, reason=reason))

    def _finish(
        self, item: Item, event_type: OutcomeType, result: Result, verdict: Verdict, way: Way, took: float
    ) -> None:
        now = self._clock.now()
        outcome = self._outcome(item, event_type, now, result=result, verdict=verdict, way=way, duration_ms=took)
        self._books.conclude(item, outcome)

    def _outcome(
        self,
        item: Item,
        event_type: OutcomeType,
        now: float,
        *,
        result: Result | None = None,
        verdict: Verdict | None = None,
        way: Way = Way(),  # noqa: B008  frozen
        duration_ms: float = 0.0,
        next_attempt_at: float | None = None,
        category: str | None = None,
        reason: str | None = None,
    ) -> Outcome:
        return self._books.recorder.of_mail(
            item.mail.envelope, event_type, now, item.attempts, item.mail.progress.round,
            attempt=item.attempts, waits=item.waits, source=item.source, result=result, verdict=verdict, way=way,
            duration_ms=duration_ms, next_attempt_at=next_attempt_at, category=category, reason=reason,
        )  # fmt: skip

    def _teach(self, lane: Lane, item: Item, result: Result, verdict: Verdict, now: float) -> None:
        """What a reply says of us or of the site holds for the whole lane."""
        if verdict.action == "deliver":
            return
        envelope = item.mail.envelope
        seen = Seen(
            result, verdict, lane.site.name, envelope.tenant_id, envelope.campaign_id or "", _egress(item) or ""
        )
        for fired in lane.saw(self._rules.triggers, seen, now):
            trigger = fired.trigger
            log.warning(
                "trigger.fired", trigger=trigger.id, action=trigger.action, lane=lane.name, seconds=trigger.lasts
            )
        if verdict.suspend:
            lane.allowance.pause(now + verdict.suspend, f"rule {verdict.rule}")
        if verdict.slow_down:
            lane.allowance.penalise(self._rules.sites.penalty, now, _egress(item) or "")
        elif verdict.pace == THROTTLED:
            lane.allowance.asked_for_less(now)

    def throttled(self, item: Item, until: float, reason: str, limit: str = SITE_RATE) -> None:
        """The site's allowance, or another ``limit``, is used up until then: wait in the wheel, and say so."""
        now = self._clock.now()
        due = min(until, item.mail.envelope.expires_at)
        what = limit if reason == "rate" else "a connection to the site"
        outcome = self._books.recorder.of_mail(
            item.mail.envelope, "deferred", now, "throttled", item.attempts, item.mail.progress.round,
            attempt=item.attempts, waits=item.waits_at(now), source=item.source, category="throttled",
            reason=f"waits for {what} until {datetime.fromtimestamp(due, UTC).isoformat(timespec='seconds')}",
            next_attempt_at=due,
        )  # fmt: skip
        self._books.put_off(item, due, reason, outcome, now, slot_of="site" if limit == SITE_RATE else "shared")


def _egress(item: Item) -> str | None:
    return item.egress.name if item.egress else None


def _closed_while_idle(result: Result) -> bool:
    if isinstance(result, Broken):
        return result.phase in _FIRST and result.reason == "disconnected"
    return isinstance(result, Replied) and result.phase in _FIRST and result.code == 421
