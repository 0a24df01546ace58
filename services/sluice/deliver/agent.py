"""The deliver service: ``mail.ready.*`` in, mail to the receiving sites and outcomes out."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator

from sluice.deliver.books import Books
from sluice.deliver.checkpoints import Checkpoints
from sluice.deliver.departures import Departures
from sluice.deliver.figures import lane_figures, waiting_figures
from sluice.deliver.handler import DeliverHandler
from sluice.deliver.paths import Paths
from sluice.deliver.protections import Protections
from sluice.deliver.senders import Senders
from sluice.deliver.shared_limits import LimitBook, SharedLimits
from sluice.deliver.step import Attempts
from sluice.domain.errors import SluiceError
from sluice.domain.priorities import Priorities
from sluice.domain.rules import Rules
from sluice.domain.sharing import Shares
from sluice.domain.topics import DEMAND, OUTCOME, READY, SITES, TENANTS
from sluice.ports.health import Health
from sluice.ports.metrics import CONNECTIONS_MAX, Figure
from sluice.runtime import telemetry, wiring
from sluice.runtime.config import Settings
from sluice.runtime.stall import overdue, stalled, uncommitted
from sluice.runtime.tasks import Tasks

GROUP = "sluice-deliver"
LOAD_S = 60.0


class DeliverService:
    """See :class:`sluice.runtime.lifecycle.Service`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._bus = wiring.bus(settings)
        self._resolver = wiring.resolver(settings)
        self._catalogue, self._reference = wiring.reference(settings, (SITES, TENANTS))
        clock = self._clock = wiring.SystemClock()
        rules = wiring.rules(settings)
        self._named = frozenset(site.name for site in rules.sites.all)
        egresses = wiring.egresses(settings, rules)
        departures = Departures(egresses, self._catalogue.tenant)
        recorder = wiring.recorder(settings, rules)
        self._tally = recorder.tally
        books = Books(self._bus, recorder, self._tasks.fail)
        self._spans = telemetry.spans("deliver", settings)
        attempts = self._attempts = Attempts(books, clock, rules, random.random, self._spans)
        self._protections = Protections(wiring.sts_policies(settings, self._resolver), wiring.dane_records(settings))
        paths = Paths(
            wiring.routes(settings),
            self._resolver,
            clock,
            wiring.own_names(settings),
            self._protections,
            secrets=wiring.egress_secrets(settings),
        )
        self._demands = wiring.demands(settings, self._bus)
        self._shared = SharedLimits(
            LimitBook(self._catalogue.tenant),
            Shares(f"{settings.node}-{uuid.uuid4().hex[:12]}"),
            self._demands,
            clock,
            lambda item, until, limit: attempts.throttled(item, until, "rate", limit),
            patience=settings.patience_s,
        )
        self._senders = Senders(
            wiring.mailer(settings),
            paths,
            attempts,
            clock,
            budget=settings.connections,
            patience=settings.patience_s,
            gate=self._shared,
            departures=departures,
            priorities=Priorities.parse(settings.priority_weights, settings.priority_reserve),
        )
        self._handler = DeliverHandler(
            books=books,
            attempts=attempts,
            senders=self._senders,
            paths=paths,
            ledger_log=wiring.ledger_log(settings),
            rules=rules,
            clock=clock,
            partitions=lambda: self._bus.partitions(OUTCOME),
            patience=settings.patience_s,
            suspended_until=self._catalogue.suspended_until,
        )
        self._rules_watch = wiring.rules_watch(
            settings, rules, self._follow, lambda new: wiring.check_egresses(egresses, new)
        )
        self._shared.go_on = self._handler.go_on
        self._intake = wiring.intake(settings, GROUP, tuple(READY.values()), self._handler)
        self._watch = wiring.reading_watch(settings, GROUP, lambda: self._intake.reading)
        self._checkpoints = Checkpoints(
            self._intake,
            self._bus,
            clock,
            self._certain_partitions,
            self._handler.started,
            self._handler.lane_states,
            settings.node,
        )
        self._handler.before_leaving = self._last_checkpoints
        books.ours = lambda: self._intake.certain

    @property
    def health(self) -> Health:
        """A mail under way may take as long as its site does, within its timeouts; anything else must move."""
        waiting = self._intake.unfinished - len(self._senders.attempting) - self._senders.dialling
        intake, limit = self._intake, self._settings.stall_s
        reason = (
            stalled(waiting, intake.moved_at, limit)
            or uncommitted(intake.owed_at, intake.moved_at, limit)
            or self._handler.reading_back.stalled(limit)
            or overdue(self._handler.oldest(), longest_in_hand(self._settings), "a mail")
            or self._watch.reason
        )
        facts = {
            "unfinished": float(self._intake.unfinished),
            "connections": float(self._senders.connections),
            "partitions": float(len(self._intake.partitions)),
        }
        return Health(not reason, self._intake.joined.is_set(), reason, facts)

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        lanes = list(self._handler.lanes.values())
        yield from self._bus.figures()
        yield from self._intake.figures()
        yield from self._reference.figures()
        yield from self._tally.figures()
        yield from self._rules_watch.figures()
        yield from waiting_figures(lanes, self._senders, self._shared, self._intake.unfinished)
        yield from lane_figures(lanes, self._named, self._clock.now())
        yield Figure(CONNECTIONS_MAX, self._settings.connections)

    async def start(self) -> None:
        """Join; raises :class:`sluice.ports.bus.NotStored` when topics are missing."""
        for topic in (*READY.values(), OUTCOME, DEMAND):
            self._bus.partitions(topic)
        self._reference.start()
        if not await asyncio.to_thread(self._reference.wait_loaded, LOAD_S):
            raise SluiceError(f"site controls and tenants were not read within {LOAD_S:.0f} s")
        self._demands.start()
        if not await asyncio.to_thread(self._demands.wait_loaded, LOAD_S):
            raise SluiceError(f"{DEMAND} was not read within {LOAD_S:.0f} s")
        self._tasks.run(self._shared.run_forever(), "shared limits")
        self._tasks.watch(lambda: self._reference.failure or self._demands.failure)
        self._tasks.run(self._handler.sweep_forever(), "sweep")
        await self._intake.start()
        self._tasks.run(self._checkpoints.write_forever(), "checkpoints")
        self._tasks.run(self._watch.run(), "reading watch")
        self._tasks.run(self._rules_watch.run(), "rules")
        self._tasks.watch(lambda: self._intake.crashed)

    def _certain_partitions(self) -> set[int]:
        return self._intake.partitions if self._intake.certain else set()

    async def _last_checkpoints(self, leaving: set[int]) -> None:
        # One who stood still would overrule what the owner since then has written.
        unsent = {partition: self._attempts.take_unsent(partition) for partition in leaving}
        if self._intake.certain:
            await self._checkpoints.write_for(leaving, unsent)

    def _follow(self, rules: Rules) -> None:
        self._named = frozenset(site.name for site in rules.sites.all)
        self._tally.follow(self._named)
        self._attempts.follow(rules)
        self._handler.follow(rules)

    async def failed(self) -> BaseException:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        return await self._tasks.failed()

    async def stop(self) -> None:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        await self._intake.stop()
        await self._tasks.stop()
        await self._senders.close()
        self._shared.give_up()
        self._reference.stop()
        self._demands.stop()
        await self._protections.close()
        await self._resolver.close()
        await self._bus.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


def longest_in_hand(settings: Settings) -> float:
    """Seconds that one mail can be in a worker's hands while every wait in it is bounded as set.

    Queueing, a connection (banner, TLS, two greetings) and a transaction: MAIL, RCPT, DATA, content, the reply to it.
    """
    connecting = 3 * settings.smtp_connect_s + 2 * settings.smtp_command_s
    sending = 2 * settings.smtp_command_s + 3 * settings.smtp_data_s + settings.smtp_dot_s
    return settings.patience_s + connecting + sending + 2 * settings.stall_s


async def open_deliver(settings: Settings) -> DeliverService:
    """Build the service; raises :class:`sluice.domain.errors.RuleError` for what is set wrong."""
    return DeliverService(settings)
