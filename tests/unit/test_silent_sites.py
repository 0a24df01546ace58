"""Sites that do not answer hold few of the connections that all sites share."""

from __future__ import annotations

import asyncio

from tests.support.deliver import Worker, rules_with

from sluice.adapters.memory.mailer import TAKEN, MemoryConnection, MemoryMailer
from sluice.deliver.desk import PROBES
from sluice.domain.conversation import Transcript
from sluice.domain.mail import Envelope
from sluice.domain.smtp import Broken, Replied
from sluice.ports.mailer import Hop, Transaction

WELL = [f"well{number}.example" for number in range(20)]
TAKES, STEP, STEPS = 0.4, 0.2, 300
"""Seconds that a mail takes at a site that is well; a mail comes to each site every ``STEP`` seconds, so often."""
CONNECTIONS, BUDGET, SILENT = 10, 24, 10
DOMAINS = [f"hole{number}.example" for number in range(SILENT)]
ROUTES = ",".join(
    [
        *(f"{domain}=smtp://{domain}:25?tls=none" for domain in DOMAINS),
        "slow.example=smtp://slow.test:25?tls=none",
        "*=smtp://mx.test:25?tls=none",
    ]
)


class BlackHoles(MemoryMailer):
    """Hosts named ``hole…`` answer nobody, until ``awake`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.calling = 0
        self.most = 0
        self.awake = asyncio.Event()

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> MemoryConnection | Replied | Broken:
        if hop.host.startswith("hole"):
            self.calling += 1
            self.most = max(self.most, self.calling)
            await self.awake.wait()
            self.calling -= 1
        return await super().connect(hop, talk)


def worker_with(mailer: BlackHoles, budget: int = BUDGET) -> Worker:
    return Worker(
        mailer=mailer,
        routes=ROUTES,
        budget=budget,
        rules=rules_with(connections=CONNECTIONS, connect_rate=None, rate=None),
    )


async def send(worker: Worker, domain: str, count: int) -> None:
    await worker.take(*(worker.record(worker.envelope(f"{domain}-{number}", domain=domain)) for number in range(count)))


def delivered(worker: Worker, domain: str) -> int:
    return sum(each.transaction.rcpt_to.endswith(domain) for each in worker.mailer.taken)


async def test_sites_that_do_not_answer_leave_connections_to_the_others() -> None:
    """All that they may have would be four times the budget."""
    mailer = BlackHoles()
    worker = worker_with(mailer)
    for domain in DOMAINS:
        await send(worker, domain, 2 * CONNECTIONS)
    assert mailer.most == SILENT * PROBES < BUDGET
    await send(worker, "well.example", 50)
    assert delivered(worker, "well.example") == 50
    assert worker.outcomes("deferred") == [], "somebody had to wait"
    await worker.close()


async def test_a_site_that_answers_at_last_gets_all_its_connections_at_once() -> None:
    mailer = BlackHoles()
    worker = worker_with(mailer)
    answering = asyncio.Event()

    async def answer(_: Transaction) -> Replied:
        await answering.wait()
        return TAKEN

    mailer.answer(DOMAINS[0], answer)
    await send(worker, DOMAINS[0], 3 * CONNECTIONS)
    assert mailer.most == PROBES
    mailer.awake.set()
    await worker.settle()
    assert len(mailer.opened) >= CONNECTIONS - 2, "all but those kept for urgent mail"
    answering.set()
    await worker.settle()
    assert delivered(worker, DOMAINS[0]) == 3 * CONNECTIONS
    await worker.close()


async def test_a_site_that_refuses_to_be_reached_is_called_by_few_again() -> None:
    mailer = BlackHoles()
    worker = worker_with(mailer)
    mailer.awake.set()
    mailer.refuse(DOMAINS[0], *[Broken("connect", "refused")] * 3)
    await send(worker, DOMAINS[0], 2)
    await worker.clock.advance(30)
    mailer.awake.clear()
    mailer.most = 0
    await send(worker, DOMAINS[0], 2 * CONNECTIONS)
    assert mailer.most <= PROBES
    await worker.close()


async def take(worker: Worker, envelope: Envelope) -> None:
    """As :meth:`Worker.take`, without waiting for everything that follows."""
    record = worker.record(envelope)
    if record.partition not in worker.handler._ledgers:
        await worker.handler.assigned(record.partition)
    worker.handler.take(record, lambda: None)


async def latencies(silent: bool) -> list[float]:
    """Seconds from arrival to the final reply of each mail to the sites that are well, ascending; time is moved."""
    mailer = BlackHoles()
    worker = worker_with(mailer, budget=3 * len(WELL))
    arrived: dict[str, float] = {}
    took: list[float] = []

    async def in_time(transaction: Transaction) -> Replied:
        await worker.clock.sleep(TAKES)
        took.append(worker.clock.now() - arrived[transaction.rcpt_to])
        return TAKEN

    async def in_a_minute(_: Transaction) -> Replied:
        await worker.clock.sleep(60)
        return TAKEN

    mailer.answer("mx.test", in_time)
    mailer.answer("slow.test", in_a_minute)
    if not silent:
        mailer.awake.set()
        mailer.answer("slow.test", TAKEN)
    for step in range(STEPS):
        for domain in (*WELL, DOMAINS[0], "slow.example"):
            envelope = worker.envelope(f"{domain}-{step}", domain=domain)
            arrived[envelope.rcpt_to] = worker.clock.now()
            await take(worker, envelope)
        await worker.clock.advance(STEP)
    await worker.clock.advance(TAKES)
    await worker.close()
    return sorted(took)


async def test_a_black_hole_and_a_site_that_takes_a_minute_cost_the_others_nothing() -> None:
    """95 of 100 of what they got, and a p99 of at most 1.2 times what it was, are asked for."""
    before, beside = await latencies(silent=False), await latencies(silent=True)
    assert len(before) >= 0.9 * STEPS * len(WELL)
    assert len(beside) >= 0.95 * len(before)
    assert beside[int(len(beside) * 0.99)] <= 1.2 * before[int(len(before) * 0.99)]
