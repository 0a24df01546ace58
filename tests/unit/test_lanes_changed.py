"""Two workers whose rules change one after the other: a site gets more lanes, and its limit is one limit throughout."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest
from tests.support.busiest import busiest_second
from tests.support.deliver import TOPICS, Worker, rules_with

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.mailer import MemoryMailer
from sluice.deliver.moves import SETTLE_S
from sluice.domain.rules import Rules
from sluice.domain.shaping import Rate
from sluice.domain.site import Site, SiteGroup, SiteRules, lane_for, lane_partition
from sluice.domain.smtp import Replied
from sluice.domain.topics import READY, WHEEL
from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.ports.mailer import Transaction
from sluice.wheel.step import due_at, move_on

RATE, LANES, MAILS, LATER = 10, 2, 400, 20
TAKEN = Replied("dot", 250, "2.0.0 taken", "2.0.0")


def rules(lanes: int) -> Rules:
    """One site with so many lanes."""
    site = Site(name="big", rate=Rate(RATE, 1.0, 1), connections=6, lanes=lanes)
    return msgspec.structs.replace(rules_with(), sites=SiteRules(Site(name=""), [SiteGroup(site, ("site.example",))]))


class Cluster:
    """Two workers, each with every other partition, and a wheel; nothing but time moves by itself."""

    def __init__(self) -> None:
        self.bus, self.clock, self.mailer = MemoryBus(TOPICS), MemoryClock(), MemoryMailer()
        self.workers = [
            Worker(bus=self.bus, clock=self.clock, mailer=self.mailer, rules=rules(1), name=name) for name in "ab"
        ]
        self.mailer.answer("mx.test", self._note)
        self.sent: list[tuple[float, str]] = []
        self._read: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._resting: list[Taken] = []

    async def _note(self, transaction: Transaction) -> Replied:
        self.sent.append((self.clock.now(), transaction.rcpt_to))
        return TAKEN

    def compose(self, known: Rules, numbers: range) -> None:
        """Mails, each in its lane by the rules that compose has."""
        for number in numbers:
            lane = lane_for(known.sites.named("big"), f"m{number}")
            envelope = self.workers[0].envelope(f"m{number}", site="big", lane=lane)
            record = self.workers[0].record(envelope)
            self.bus.publish(Record(record.topic, record.value, record.key, record.headers, record.partition))

    def _new(self, topic: str) -> list[Taken]:
        """Records that were published since it was asked last."""
        found: list[Taken] = []
        for partition in range(TOPICS[topic]):
            records, first = self.bus.stored[topic, partition], self._read[topic, partition]
            self._read[topic, partition] = len(records)
            found += [
                Taken(topic, partition, offset, each.key, each.value, each.headers, self.clock.now())
                for offset, each in enumerate(records[first:], first)
            ]
        return found

    async def second(self) -> None:
        """Hand over what is new, let the wheel turn, and a second pass."""
        for _ in range(4):
            for topic in READY.values():
                for record in self._new(topic):
                    await self._take(self.workers[record.partition % 2], record)
            await self.workers[0].settle()
        self._resting += [record for topic in WHEEL.values() for record in self._new(topic)]
        now = self.clock.now()
        due = [record for record in self._resting if due_at(record) <= now]
        self._resting = [record for record in self._resting if due_at(record) > now]
        for record in due:
            self.bus.publish(move_on(record, now))
        for _ in range(10):
            await self.clock.advance(0.1)
        for worker in self.workers:
            worker.handler.sweep()

    async def _take(self, worker: Worker, record: Taken) -> None:
        if record.partition not in worker.handler._ledgers:
            await worker.handler.assigned(record.partition)
        worker.handler.take(record, lambda: None)


@pytest.mark.parametrize("owner_first", [True, False])
async def test_a_site_that_gets_more_lanes_keeps_to_its_rate_and_gets_each_mail_once(owner_first: bool) -> None:
    """Compose and one worker know before the other, and mails go to and fro meanwhile.

    Whichever of the workers has sent until then: if the other one served the new lane at once, both would.
    """
    cluster = Cluster()
    home = lane_partition("big#0", 4)
    cluster.compose(rules(1), range(MAILS // 2))
    for _ in range(5):
        await cluster.second()
    first, second = cluster.workers[home % 2], cluster.workers[(home + 1) % 2]
    if not owner_first:
        first, second = second, first
    began = cluster.clock.now()
    first.handler.follow(rules(LANES))
    cluster.compose(rules(LANES), range(MAILS // 2, MAILS))
    for _ in range(LATER):
        await cluster.second()
    second.handler.follow(rules(LANES))
    for _ in range(230):
        await cluster.second()
    assert sorted(to for _, to in cluster.sent) == sorted(f"m{number}@site.example" for number in range(MAILS))
    times = [at for at, _ in cluster.sent]
    assert busiest_second(times) <= RATE + LANES
    lanes = {name for worker in cluster.workers for name, lane in worker.handler.lanes.items() if lane.service != 0.05}
    assert lanes == {f"big#{number}" for number in range(LANES)}
    assert sum(at > began + LATER + SETTLE_S for at in times) > 50, "all were sent before: nothing was shown"
    for worker in cluster.workers:
        await worker.close()
