"""What deliver does with a record of ``mail.ready.*``: decide where it goes, and who has finished it before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sluice.deliver.books import Books
from sluice.deliver.growth import Growth
from sluice.deliver.homecoming import Homecoming
from sluice.deliver.item import Item, done_already
from sluice.deliver.lane import Lane, forget
from sluice.deliver.moves import Moves
from sluice.deliver.paths import Path, Paths
from sluice.deliver.reading_back import ReadingBack
from sluice.deliver.senders import Senders
from sluice.deliver.step import Attempts
from sluice.domain.conclusion import Way
from sluice.domain.errors import Undecodable
from sluice.domain.lanes import LaneState
from sluice.domain.ledger import Finished, InDoubt, Ledger, PutOff
from sluice.domain.mail import Mail, read_mail
from sluice.domain.outcome import Outcome
from sluice.domain.rules import Rules
from sluice.domain.site import lane_number
from sluice.domain.smtp import Broken
from sluice.domain.tls_sessions import unresolved
from sluice.domain.window import Range
from sluice.ports.clock import Clock
from sluice.ports.intake import Done, Taken
from sluice.ports.ledger import LedgerLog

log = structlog.get_logger(__name__)
NEW_LANES = "its site has just got other lanes"


class DeliverHandler:
    """Takes ready mails into lanes. ``partitions`` is how many ``mail.ready.*`` have."""

    def __init__(
        self,
        *,
        books: Books,
        attempts: Attempts,
        senders: Senders,
        paths: Paths,
        ledger_log: LedgerLog,
        rules: Rules,
        clock: Clock,
        partitions: Callable[[], int],
        patience: float,
        suspended_until: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        """``suspended_until`` tells until when an operator wants nothing sent to a site; 0.0 for never."""
        self._books = books
        self._attempts = attempts
        self._senders = senders
        self._paths = paths
        self.reading_back = ReadingBack(ledger_log, clock)
        self._clock = clock
        self._partitions = partitions
        self._patience = patience
        self._suspended_until = suspended_until
        self._ledgers: dict[int, Ledger] = {}
        self._items: dict[int, set[Item]] = {}
        self._growth = Growth(partitions, clock)
        self._moves = Moves(books, rules, clock, self._growth)
        self._learnt: dict[str, LaneState] = {}
        self.lanes: dict[str, Lane] = {}
        self._homecoming = Homecoming(self.lanes, self._growth, books, senders, self._route)
        self.before_leaving: Callable[[set[int]], Awaitable[None]] = _nothing_to_do
        """Called when all that could be finished of partitions is, while they are still ours."""

    @property
    def rules(self) -> Rules:
        """Those in force."""
        return self._moves.rules

    def follow(self, rules: Rules) -> None:
        """Other rules are in force: lanes take over their limits, and mails in memory go where they belong now."""
        self._moves.follow(rules)
        now = self._clock.now()
        for lane in self.lanes.values():
            lane.follow(rules, now)
            lane.allowance.pause(self._moves.settled_at(lane.site.name), NEW_LANES)
            for flow in list(lane.flows.values()):
                flow.drop({item for item in flow.waiting() if self._moves.moved(item, flow.path)})

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """Read the partition's ledger back; see :class:`sluice.ports.intake.Handler`."""
        ledger = await self.reading_back.read(partition)
        if ledger is None:
            return {}
        self._ledgers[partition] = ledger
        self._learnt.update(ledger.lanes)
        self._items[partition] = set()
        return ledger.finished_by_topic()

    def take(self, record: Taken, done: Done) -> None:
        """Begin work on a ready mail."""
        try:
            mail = read_mail(record.headers, record.value or b"")
            at_home = record.partition == self._growth.home(mail.envelope.lane)
        except (Undecodable, ValueError) as error:
            self._books.bury(record, str(error), done, self._dead(record, error))
            return
        items = self._items[record.partition]

        def finished() -> None:
            items.discard(item)
            done()
            # Item and function hold each other; what the collector has to find makes the loop stand still for 0.1 s.
            item.done = done_already

        item = Item(mail, record, finished, self._clock.now())
        items.add(item)
        try:
            if self._is_new(item, at_home=at_home):
                self._route(item)
        except Exception as error:
            # A step that fails on one mail must not stop the partition behind it; whoever mends it finds it whole.
            log.exception("mail.step_failed", topic=record.topic, partition=record.partition, offset=record.offset)
            reason = f"{type(error).__name__} in a step: see the log"
            self._books.bury(record, reason, finished, self._dead(record, Undecodable("value", reason)))

    def _is_new(self, item: Item, *, at_home: bool) -> bool:
        """Ask the ledger; conclude here what needs no attempt."""
        mail, record = item.mail, item.record
        place = (record.topic, record.offset)
        ledger = self._ledgers[record.partition]
        if at_home:
            verdict = ledger.take(mail.envelope.message_id, mail.progress.round, place)
        else:
            # Partitions were added: its lane is another partition's now, and what was begun here is known only here.
            verdict = ledger.pass_on(place)
        if isinstance(verdict, Finished):
            item.done()
            return False
        if isinstance(verdict, PutOff):
            item.attempts = verdict.attempt
            reason = "rate" if verdict.category == "throttled" else "retry"
            self._books.put_off(item, verdict.until, reason, None, self._clock.now())
            return False
        if isinstance(verdict, InDoubt):
            return self._attempts.doubt(item, verdict.attempt)
        return True

    def _route(self, item: Item) -> None:
        envelope, read_from = item.mail.envelope, item.record.partition
        if read_from != (home := self._growth.home(envelope.lane)):
            log.info("mail.forwarded", lane=envelope.lane, read_from=read_from, owner=home)
            self._homecoming.send(item)
            return
        if envelope.expires_at <= self._clock.now():
            self._attempts.expire(item)
            return
        path = self._paths.known(envelope.domain, despite_tls=envelope.despite_tls)
        if path is None:
            self._books.run(self._find_path(item))
        else:
            self._enqueue(item, path)

    async def _find_path(self, item: Item) -> None:
        path = await self._paths.find((to := item.mail.envelope).domain, despite_tls=to.despite_tls)
        if not item.handed_back:
            self._enqueue(item, path)

    def _enqueue(self, item: Item, path: Path | Broken) -> None:
        if isinstance(path, Path) and self._moves.moved(item, path):
            return
        lane = self._lane(item.mail)
        now = self._clock.now()
        if isinstance(path, Broken):
            item.attempted(now)
            item.attempts += 1
            self._attempts.conclude(item, path, lane, Way(sessions=unresolved(path)), now)
            return
        mail, patience = item.mail, self._patience
        item.egress = self._senders.departures.choose(mail, lane)
        wait = lane.hindered(item, now, patience)
        wait = wait or self._senders.gate.place(item, now) or lane.booked(item, now, patience)
        if wait is not None:
            self._attempts.throttled(item, wait.until, wait.reason, wait.what)
        else:
            self._senders.offer(lane, path, item)

    def go_on(self, item: Item, lane: Lane, path: Path) -> None:
        """Queue a mail again that waited apart from its lane."""
        if item.handed_back or self._moves.moved(item, path):
            return
        if self.lanes.get(lane.name) is lane:
            self._senders.offer(lane, path, item)
        else:
            self._homecoming.send(item)

    def _lane(self, mail: Mail) -> Lane:
        name = mail.envelope.lane
        lane = self.lanes.get(name)
        if lane is None:
            site, number = lane_number(name)
            now = self._clock.now()
            lane = self.lanes[name] = Lane(
                name, self.rules.sites.named(site), number, self._clock, self._senders.priorities
            )
            learnt = self._learnt.pop(name, None)
            if learnt is not None:
                lane.restore(learnt, self.rules, now)
            lane.allowance.pause(self._moves.settled_at(site), NEW_LANES)
            lane.allowance.suspend(self._suspended_until(site))
            if self._growth.has_moved(name):
                lane.allowance.pause(self._growth.settled_at, "its lane has just moved")
        return lane

    async def revoked(self, partitions: set[int]) -> None:
        """Hand back what has not begun; let attempts under way finish. Bounded by the caller."""
        self.reading_back.give_up(partitions)
        leaving = {item for partition in partitions for item in self._items.pop(partition, ())}
        for item in leaving:
            item.handed_back = True
        for lane in self.lanes.values():
            lane.drop(leaving)
        await self._senders.finish(leaving)
        going = {name: lane for name, lane in self.lanes.items() if self._growth.home(name) in partitions}
        await self._senders.leave(set(going.values()))
        for lane in going.values():
            self._homecoming.send_all(lane)
        await self._books.settled()
        await self.before_leaving(partitions)
        for name, lane in going.items():
            # Growth, or a long silence, may have taken it out meanwhile.
            if self.lanes.get(name) is lane:
                del self.lanes[name]
        for partition in partitions:
            self._ledgers.pop(partition, None)

    def oldest(self) -> float:
        """Seconds since the record was taken that has been in hand longest; 0.0 when there is none."""
        taken = [item.taken_at for items in self._items.values() for item in items]
        return self._clock.now() - min(taken) if taken else 0.0

    def started(self, partition: int) -> list[tuple[str, int]]:
        """Topic and offset of attempts under way, or left open by an earlier owner, for a partition's checkpoint."""
        items = [item.record for item in self._senders.attempting if item.record.partition == partition]
        ledger = self._ledgers.get(partition)
        return [(record.topic, record.offset) for record in items] + (ledger.untaken() if ledger else [])

    def lane_states(self, partition: int) -> dict[str, LaneState]:
        """The partition's lanes that have something to tell, for its checkpoint."""
        now, node = self._clock.now(), self._books.recorder.node
        states = {
            name: lane.state(now, node, self.rules.version)
            for name, lane in self.lanes.items()
            if self._growth.home(name) == partition
        }
        busy = {name: state for name, state in states.items() if state.learnt or state.queued or state.connections}
        unopened = {name: state for name, state in self._learnt.items() if self._growth.home(name) == partition}
        return {**unopened, **busy}

    async def sweep_forever(self) -> None:
        """Once a second, follow what operators say of sites, and put off what waits too long in memory."""
        while True:
            await asyncio.sleep(1.0)
            self.sweep()

    def sweep(self) -> None:
        """One round."""
        self._homecoming.follow_growth()
        for lane in self.lanes.values():
            lane.allowance.suspend(self._suspended_until(lane.site.name))
            lane.follow_triggers(self.rules.triggers, self._clock.now())
        self._senders.sweep(list(self.lanes.values()))
        forget(self.lanes, self._clock.now())

    def _dead(self, record: Taken, error: Exception) -> Outcome:
        where = f"{record.topic}:{record.partition}:{record.offset}"
        message_id = dict(record.headers).get("ce_id", where.encode()).decode("utf-8", "replace")
        field, reason = (error.field, error.reason) if isinstance(error, Undecodable) else ("lane", str(error))
        return self._books.recorder.of_record(message_id, "", "dead", self._clock.now(), field=field, reason=reason)


async def _nothing_to_do(_: set[int]) -> None:
    return
