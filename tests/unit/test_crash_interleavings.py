"""One partition of ready mails under any order of work, crashes and hand-overs: the ordered acker and the ledger.

A model of what surrounds them: the partition's records, Kafka's commit, the ledger's log, and what a receiving server
took. What a worker knows is lost with it; what it wrote stays.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluice.domain.ledger import (
    CONCLUDING,
    Checkpoint,
    Entry,
    Finished,
    Fresh,
    InDoubt,
    Ledger,
    PutOff,
    decode_checkpoint,
    encode_checkpoint,
)
from sluice.domain.outcome import OutcomeType, Source
from sluice.domain.window import Window

TOPIC = "mail.ready.normal"
DUE = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
BOUND = 4
"""Unfinished records at which fetching pauses."""


class Worker:
    """What one owner of the partition has in memory."""

    def __init__(self, log: list[Entry | bytes], position: int, name: str) -> None:
        self.name = name
        self.ledger = Ledger()
        for written in log:
            if isinstance(written, bytes):
                self.ledger.restore(decode_checkpoint(written))
            else:
                self.ledger.replay(written)
        self.window = Window(self.ledger.finished_by_topic().get(TOPIC, []))
        self.position = position
        self.hands: dict[int, str] = {}
        self.attempts: dict[int, int] = {}
        self.asked: int | None = None

    def at(self, *stages: str) -> list[int]:
        """Records in hand that have come so far."""
        return [offset for offset, stage in self.hands.items() if stage in stages]


class Partition(RuleBasedStateMachine):
    """The ledger is read back no further than to the last checkpoint but one."""

    reads_all_back = False

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[int, tuple[str, int]] = {}
        self.end = 0
        self.high = 0
        self.commit_stored = 0
        self.log: list[Entry | bytes] = []
        self.finished: set[int] = set()
        self.in_wheel: set[int] = set()
        self.doubtful: set[int] = set()
        self.told_in_doubt: set[int] = set()
        self.copies: Counter[str] = Counter()
        self.doubts: Counter[str] = Counter()
        self.workers = 0
        self.held_up: list[Entry] = []
        """What a suspended worker's producer has not brought to the log yet."""
        self.attempted_by: dict[int, str] = {}
        """Who began the last attempt."""
        self.opened_late: set[int] = set()
        """Records of which an attempt was stored that has been known to be over."""
        self.ended_late: set[int] = set()
        """Records whose last attempt was concluded by what came late."""
        self.worker = self.successor()

    # The world: what is written, and what can be known of it.

    def append(self, mail: str, round_: int, hole: int = 0) -> None:
        offset = self.end + hole
        self.records[offset] = (mail, round_)
        self.end = offset + 1

    def write(self, kind: OutcomeType, offset: int) -> None:
        self.log.append(self.entry(kind, offset))

    def entry(self, kind: OutcomeType, offset: int) -> Entry:
        """An outcome by the worker as it stands."""
        mail, round_ = self.records[offset]
        due = DUE if kind == "deferred" else None
        attempt = self.worker.attempts.get(offset, round_)
        return Entry(kind, mail, Source(TOPIC, 0, offset, round_), attempt, None, due, node=self.worker.name)

    def written(self, *kinds: OutcomeType) -> dict[int, int]:
        """By record, where in the log its last such outcome stands."""
        return {
            entry.source.offset: place
            for place, entry in enumerate(self.log)
            if isinstance(entry, Entry) and entry.source is not None and entry.event_type in kinds
        }

    def concluded(self, offset: int) -> bool:
        return offset in self.written(*CONCLUDING)

    def checkpoints(self) -> list[int]:
        return [place for place, written in enumerate(self.log) if isinstance(written, bytes)]

    def successor(self) -> Worker:
        """Who reads on from the commit, knowing what is read back of the log."""
        recent = self.checkpoints()[-2:]
        start = recent[0] if len(recent) == 2 and not self.reads_all_back else 0
        self.workers += 1
        return Worker(self.log[start:], self.commit_stored, f"worker-{self.workers}")

    def may_write_checkpoint(self) -> bool:
        """Whether nothing lags so much that it would be read back too late: in truth that takes ten minutes."""
        last = self.checkpoints()[-1:] or [0]
        worker = self.worker
        lagging = [
            place
            for offset, place in self.written("deferred").items()
            if offset >= worker.position or offset in worker.hands
        ]
        lagging += [place for offset, place in self.written(*CONCLUDING).items() if offset in worker.hands]
        return all(place > last[0] for place in lagging)

    # What happens.

    @initialize()
    def begin_with_work_in_hand(self) -> None:
        """Runs are short: without a start they seldom get anywhere."""
        self.arrive([0, 0, 1, 0, 0, 0])
        self.take(3)

    @rule(holes=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def arrive(self, holes: list[int]) -> None:
        """Mails are composed."""
        for hole in holes:
            self.append(f"mail-{self.end + hole}", 0, hole)

    def may_take(self) -> bool:
        return self.worker.position < self.end and self.worker.window.unfinished < BOUND

    @precondition(may_take)
    @rule(count=st.integers(1, BOUND))
    def take(self, count: int) -> None:
        for _ in range(count):
            if self.may_take():
                self.take_one()

    def take_one(self) -> None:
        worker = self.worker
        offset = min(offset for offset in self.records if offset >= worker.position)
        mail, round_ = self.records[offset]
        worker.position = offset + 1
        self.high = max(self.high, worker.position)
        if not worker.window.take(offset):
            assert offset in self.finished or self.concluded(offset), "passed over, and nobody finished it"
            self.finished.add(offset)
            return
        verdict = worker.ledger.take(mail, round_, (TOPIC, offset))
        if isinstance(verdict, Finished):
            assert self.concluded(offset) or self.is_repeat(offset), "called finished, and nobody finished it"
            worker.hands[offset] = "settled"
        elif isinstance(verdict, PutOff):
            assert offset in self.written("deferred")
            assert offset not in self.doubtful - self.told_in_doubt - self.ended_late, (
                "a deferral covers up an open attempt"
            )
            worker.hands[offset] = "deferred"
        elif isinstance(verdict, InDoubt):
            assert offset in self.doubtful | self.opened_late, "in doubt, and no attempt was left open"
            self.doubts[mail] += offset in self.opened_late or offset not in self.told_in_doubt
            self.told_in_doubt.add(offset)
            worker.attempts[offset] = max(verdict.attempt, round_ + 1)
            self.write("in_doubt", offset)
            worker.hands[offset] = "ready"
        else:
            assert verdict == Fresh()
            assert not self.concluded(offset), "concluded, and begun again"
            assert offset not in self.doubtful - self.told_in_doubt, "an open attempt was forgotten"
            assert offset not in self.in_wheel, "it is in the wheel, and begun again"
            worker.hands[offset] = "ready"

    def is_repeat(self, offset: int) -> bool:
        mail, round_ = self.records[offset]
        return any(
            other != offset and known == mail and reached >= round_ for other, (known, reached) in self.records.items()
        )

    def step(self, data: st.DataObject, stage: str) -> int:
        return data.draw(st.sampled_from(self.worker.at(stage)))

    @precondition(lambda self: self.worker.at("ready"))
    @rule(data=st.data())
    def work_off(self, data: st.DataObject) -> None:
        """Mails all the way, so that runs get far within few steps."""
        for offset in data.draw(st.sets(st.sampled_from(self.worker.at("ready")), min_size=1)):
            self.attempt(offset)
            if data.draw(st.booleans()):
                self.send(offset)
                self.conclude(offset, "delivered")
            else:
                self.ask_to_wait(offset)
                self.put_off(offset)
            self.call_done(offset)

    @precondition(lambda self: self.worker.at("ready"))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """The attempt is written down, then the content may go out."""
        self.attempt(self.step(data, "ready"))

    def attempt(self, offset: int) -> None:
        self.worker.attempts[offset] = self.worker.attempts.get(offset, self.records[offset][1]) + 1
        self.write("attempted", offset)
        self.doubtful.add(offset)
        self.told_in_doubt.discard(offset)
        self.worker.hands[offset] = "attempting"
        self.attempted_by[offset] = self.worker.name
        self.ended_late.discard(offset)

    @precondition(lambda self: self.worker.at("attempting"))
    @rule(data=st.data())
    def transmit(self, data: st.DataObject) -> None:
        self.send(self.step(data, "attempting"))

    def send(self, offset: int) -> None:
        assert not self.concluded(offset)
        mail, _ = self.records[offset]
        self.copies[mail] += 1
        self.worker.hands[offset] = "sent"

    @precondition(lambda self: self.worker.at("sent"))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.conclude(self.step(data, "sent"), "delivered")

    @precondition(lambda self: self.worker.at("attempting"))
    @rule(data=st.data())
    def bounce(self, data: st.DataObject) -> None:
        self.conclude(self.step(data, "attempting"), "bounced")

    @precondition(lambda self: self.worker.at("ready"))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A step raised: it is buried."""
        self.conclude(self.step(data, "ready"), "dead")

    def conclude(self, offset: int, kind: OutcomeType) -> None:
        self.write(kind, offset)
        self.doubtful.discard(offset)
        self.worker.hands[offset] = "settled"

    @precondition(lambda self: self.worker.at("attempting"))
    @rule(data=st.data())
    def defer(self, data: st.DataObject) -> None:
        self.ask_to_wait(self.step(data, "attempting"))

    def ask_to_wait(self, offset: int) -> None:
        self.write("deferred", offset)
        self.doubtful.discard(offset)
        self.worker.hands[offset] = "deferred"

    @precondition(lambda self: self.worker.at("ready"))
    @rule(data=st.data())
    def throttle(self, data: st.DataObject) -> None:
        """It waits for a turn, and no attempt was made."""
        self.ask_to_wait(self.step(data, "ready"))

    @precondition(lambda self: not self.held_up and self.worker.at("ready", "attempting"))
    @rule(data=st.data())
    def suspend(self, data: st.DataObject) -> None:
        """A worker stands still with a deferral, and perhaps its attempt, in its producer; another takes over."""
        offset = data.draw(st.sampled_from(self.worker.at("ready", "attempting")))
        if self.worker.hands[offset] == "ready" and data.draw(st.booleans()):
            self.worker.attempts[offset] = self.worker.attempts.get(offset, self.records[offset][1]) + 1
            self.held_up.append(self.entry("attempted", offset))
        self.held_up.append(self.entry("deferred", offset))
        self.worker = self.successor()

    @precondition(lambda self: self.held_up)
    @rule()
    def store_late(self) -> None:
        """It never enters the wheel: its worker waits until it is certain that the mail is its own."""
        entry = self.held_up.pop(0)
        assert entry.source is not None
        offset = entry.source.offset
        if entry.event_type == "attempted":
            self.opened_late.add(offset)
        elif self.attempted_by.get(offset) == entry.node:
            self.ended_late.add(offset)
        self.log.append(entry)

    @precondition(lambda self: self.worker.at("deferred"))
    @rule(data=st.data())
    def enter_wheel(self, data: st.DataObject) -> None:
        self.put_off(self.step(data, "deferred"))

    def put_off(self, offset: int) -> None:
        mail, round_ = self.records[offset]
        if offset not in self.in_wheel or self.reads_all_back:
            self.append(mail, round_ + 1)
        self.in_wheel.add(offset)
        self.worker.hands[offset] = "settled"

    @precondition(lambda self: self.worker.at("settled"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """What follows from it is durable."""
        self.call_done(self.step(data, "settled"))

    def call_done(self, offset: int) -> None:
        self.worker.window.finish(offset)
        self.finished.add(offset)
        del self.worker.hands[offset]

    @precondition(may_write_checkpoint)
    @rule()
    def checkpoint(self) -> None:
        worker = self.worker
        started = [(TOPIC, offset) for offset in worker.at("attempting", "sent")] + worker.ledger.untaken()
        unsent = [(TOPIC, offset) for offset in worker.at("unsent")]
        finished = {TOPIC: worker.window.finished_beyond()}
        self.log.append(encode_checkpoint(Checkpoint(finished, started, unsent=unsent, node=worker.name)))

    @rule()
    def ask_for_commit(self) -> None:
        """What the worker asks Kafka for; it goes on meanwhile."""
        self.worker.asked = self.worker.window.committable

    @precondition(lambda self: self.worker.asked is not None)
    @rule(heard=st.booleans())
    def commit(self, heard: bool) -> None:
        """Kafka stores the commit; whether the worker lives to hear of it is another thing."""
        asked = self.worker.asked
        assert asked is not None
        assert asked >= self.commit_stored, "the commit went back"
        self.commit_stored = asked
        if heard:
            self.worker.window.committed(asked)

    @rule()
    def crash(self) -> None:
        self.worker = self.successor()
        assert len(self.to_send(self.successor()) - self.opened_late) <= BOUND, "more is repeated than was unfinished"

    @precondition(may_write_checkpoint)
    @rule(stored=st.booleans(), unsent=st.booleans())
    def hand_over(self, stored: bool, unsent: bool) -> None:
        """Attempts under way end, the rest goes back; ``stored`` is whether the last commit still came through.

        ``unsent``: those go back too whose content has not been sent.
        """
        doubted = self.doubts.copy()
        for offset in self.worker.at("attempting"):
            if unsent:
                self.worker.hands[offset] = "unsent"
                self.doubtful.discard(offset)
            else:
                self.send(offset)
        for offset in self.worker.at("sent"):
            self.conclude(offset, "delivered")
        for offset in self.worker.at("deferred"):
            self.put_off(offset)
        for offset in self.worker.at("settled"):
            self.call_done(offset)
        self.checkpoint()
        self.ask_for_commit()
        if stored and self.worker.asked is not None:
            self.commit(heard=True)
        left = self.worker.hands.keys() | {offset for offset in self.records if offset >= self.worker.position}
        self.worker = self.successor()
        again = self.to_send(self.successor())
        assert again <= left | self.opened_late, "finished, and repeated after a clean hand-over"
        assert self.doubts == doubted

    def to_send(self, worker: Worker) -> set[int]:
        """Records that were read before and that this worker would send."""
        found = set()
        for offset in sorted(self.records):
            if worker.position <= offset < self.high and worker.window.take(offset):
                mail, round_ = self.records[offset]
                if isinstance(worker.ledger.take(mail, round_, (TOPIC, offset)), Fresh | InDoubt):
                    found.add(offset)
        return found

    # What always holds.

    @invariant()
    def commit_passes_nothing_unfinished(self) -> None:
        assert all(offset in self.finished for offset in self.records if offset < self.commit_stored)

    @invariant()
    def nothing_is_sent_again_but_what_was_in_doubt(self) -> None:
        assert all(count <= 1 + self.doubts[mail] for mail, count in self.copies.items())

    def teardown(self) -> None:
        """Left alone, every mail comes to its end."""
        for _ in range(10 * len(self.records) + 10):
            if self.may_take():
                self.take_one()
            for offset in self.worker.at("ready"):
                self.conclude(offset, "delivered")
            for offset in self.worker.at("attempting", "sent"):
                self.conclude(offset, "delivered")
            for offset in self.worker.at("deferred"):
                self.put_off(offset)
            for offset in self.worker.at("settled"):
                self.call_done(offset)
        self.ask_for_commit()
        if self.worker.asked is not None:
            self.commit(heard=True)
        ended = {self.records[offset][0] for offset in self.written(*CONCLUDING)}
        assert ended == {mail for mail, _ in self.records.values()}
        assert not self.records or self.commit_stored == self.end


class Repeats(Partition):
    """Everything is read back; what the wheel releases twice comes twice."""

    reads_all_back = True

    @precondition(lambda self: any(round_ for _, round_ in self.records.values()))
    @rule(data=st.data(), at_once=st.booleans())
    def released_twice(self, data: st.DataObject, at_once: bool) -> None:
        """The wheel was killed between publishing and its commit."""
        again = [found for found in self.records.values() if found[1]]
        self.append(*data.draw(st.sampled_from(again)))
        if at_once:
            self.take(BOUND)


Partition.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
Repeats.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestPartition = Partition.TestCase
TestRepeats = Repeats.TestCase
