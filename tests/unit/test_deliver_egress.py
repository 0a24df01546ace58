"""Deliver through several egresses: which one a mail takes, what each may do, and how triggers switch."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from tests.support.deliver import Worker, rules_with

from sluice.domain.egress import Egress, Egresses
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, encode_checkpoint
from sluice.domain.reference import Tenant
from sluice.domain.rules import Rules
from sluice.domain.shaping import Rate
from sluice.domain.site import Site, SiteGroup, SiteRules, lane_for, lane_partition
from sluice.domain.smtp import Replied
from sluice.domain.topics import OUTCOME
from sluice.domain.triggers import Trigger, Triggers
from sluice.ports.bus import Record
from sluice.ports.mailer import Transaction

BLOCKED = Replied("rcpt", 554, "5.7.1 your address is listed", "5.7.1")
TWO = Egresses([Egress("one", "one.example", ("192.0.2.1",)), Egress("two", "two.example", ("192.0.2.2",))])
SWITCH = Trigger(id="listed", action="switch_egress", lasts=600.0, codes=("554",))


def rules(*triggers: Trigger, **site: Any) -> Rules:
    return msgspec.structs.replace(rules_with(**{"rate": None, **site}), triggers=Triggers(triggers))


def ways(worker: Worker) -> Counter[tuple[str, str | None]]:
    """EHLO name and source address of the mails taken."""
    return Counter((taken.hop.ehlo, taken.hop.source_address) for taken in worker.mailer.taken)


async def send(worker: Worker, count: int, start: int = 0, **given: Any) -> None:
    await worker.take(
        *(worker.record(worker.envelope(f"m{number}", **given)) for number in range(start, start + count))
    )


async def test_a_pool_is_shared_and_outcomes_name_the_egress() -> None:
    """Each has connections of its own, said hello on by its own name."""
    worker = Worker(rules=rules(), egresses=TWO)
    await send(worker, 40)
    used = ways(worker)
    assert set(used) == {("one.example", "192.0.2.1"), ("two.example", "192.0.2.2")}
    assert min(used.values()) > 10
    sent = {taken.transaction.rcpt_to: taken.hop.ehlo for taken in worker.mailer.taken}
    for outcome in worker.outcomes("delivered"):
        assert sent[outcome.recipient or ""] == f"{outcome.egress}.example"
    await worker.close()


async def test_a_tenants_egress_goes_before_a_sites() -> None:
    """And a site's before any."""
    tenants = {"acme": Tenant(tenant_id="acme", domains=[], egress="one")}
    worker = Worker(rules=rules(egress="two"), egresses=TWO, tenant=tenants.get)
    await send(worker, 5)
    await send(worker, 7, 5, tenant_id="other")
    assert ways(worker) == {("one.example", "192.0.2.1"): 5, ("two.example", "192.0.2.2"): 7}
    await worker.close()


async def test_a_mails_own_egress_goes_before_its_tenants() -> None:
    tenants = {"acme": Tenant(tenant_id="acme", domains=[], egress="one")}
    worker = Worker(rules=rules(egress="one"), egresses=TWO, tenant=tenants.get)
    await send(worker, 5)
    await send(worker, 3, 5, egress="two")
    assert ways(worker) == {("one.example", "192.0.2.1"): 5, ("two.example", "192.0.2.2"): 3}
    await worker.close()


async def test_a_trigger_has_the_lane_leave_from_the_egress_it_names_for_a_while() -> None:
    """Mails in the queue too; afterwards things are as before."""
    trigger = msgspec.structs.replace(SWITCH, egress="two")
    worker = Worker(rules=rules(trigger, egress="one", connections=1), egresses=TWO, patience=60.0)
    gate = asyncio.Event()

    async def refuse(_: Transaction) -> Replied:
        await gate.wait()
        return Replied("dot", 554, "5.7.1 your address is listed", "5.7.1")

    worker.mailer.answer("m0@site.example", refuse)
    await send(worker, 6)
    gate.set()
    await worker.clock.advance(1.0)
    assert ways(worker) == {("two.example", "192.0.2.2"): 5}
    assert [outcome.egress for outcome in worker.outcomes("bounced")] == ["one"]
    assert {outcome.egress for outcome in worker.outcomes("delivered")} == {"two"}
    await send(worker, 3, 10)
    assert ways(worker) == {("two.example", "192.0.2.2"): 8}
    await worker.clock.advance(600.0)
    worker.handler.sweep()
    await send(worker, 2, 20)
    await worker.clock.advance(1.0)
    assert ways(worker) == {("two.example", "192.0.2.2"): 8, ("one.example", "192.0.2.1"): 2}
    await worker.close()


async def test_only_the_egress_that_was_refused_is_left_and_only_at_that_site() -> None:
    """The other one goes on as before, and so does every other site."""
    worker = Worker(rules=rules(SWITCH), egresses=TWO)
    tenant = next(f"m{n}" for n in range(99) if TWO.choose(None, f"m{n}").name == "one")
    worker.mailer.answer(f"{tenant}@site.example", BLOCKED)
    await worker.take(worker.record(worker.envelope(tenant)))
    await send(worker, 20, 100)
    assert set(ways(worker)) == {("two.example", "192.0.2.2")}
    await send(worker, 20, 200, domain="other.example")
    assert ("one.example", "192.0.2.1") in ways(worker)
    await worker.close()


async def test_when_all_are_refused_mail_goes_on_from_where_it_was() -> None:
    """There is nowhere better; what the replies mean is for other triggers."""
    worker = Worker(rules=rules(SWITCH), egresses=TWO)
    for egress in ("one", "two"):
        name = next(f"{egress}{n}" for n in range(99) if TWO.choose(None, f"{egress}{n}").name == egress)
        worker.mailer.answer(f"{name}@site.example", BLOCKED)
        worker.mailer.answer(f"{name}-again@site.example", BLOCKED)
        await worker.take(worker.record(worker.envelope(name)))
    (lane,) = worker.handler.lanes.values()
    assert "one" in lane.switched
    lane.saw(worker.handler.rules.triggers, _seen("two"), worker.clock.now())
    assert set(lane.switched) == {"one", "two"}
    await send(worker, 20, 100)
    assert set(ways(worker)) == {("one.example", "192.0.2.1"), ("two.example", "192.0.2.2")}
    await worker.close()


async def test_only_the_egress_whose_reputation_is_blamed_goes_slowly() -> None:
    """The penalty is for an address: one mail a minute over one connection there, and the other goes on as before."""
    worker = Worker(rules=rules(), egresses=TWO, patience=300.0)
    blamed = next(f"m{n}" for n in range(99) if TWO.choose(None, f"m{n}").name == "one")
    worker.mailer.answer(f"{blamed}@site.example", Replied("dot", 421, "4.7.0 blocked using zen.spamhaus.org", "4.7.0"))
    await worker.take(worker.record(worker.envelope(blamed)))
    await send(worker, 40, 100)
    await worker.clock.advance(1.0)
    assert ways(worker)["two.example", "192.0.2.2"] == sum(
        TWO.choose(None, f"m{n}").name == "two" for n in range(100, 140)
    )
    assert ways(worker)["one.example", "192.0.2.1"] <= 1
    await worker.clock.advance(120.0)
    assert 2 <= ways(worker)["one.example", "192.0.2.1"] <= 4
    await worker.close()


async def test_the_next_owner_of_a_lane_goes_on_leaving_from_elsewhere() -> None:
    """Triggers in force travel in the checkpoint."""
    worker = Worker(rules=rules(SWITCH, egress="one"), egresses=TWO)
    worker.mailer.answer("m0@site.example", BLOCKED)
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    states = worker.handler.lane_states(record.partition)
    assert [held[:2] for held in states["site.example#0"].triggered] == [("listed", "one")]
    await worker.handler.revoked({record.partition})
    headers = [("ce_type", CHECKPOINT_TYPE.encode())]
    checkpoint = encode_checkpoint(Checkpoint({}, [], states))
    await worker.bus.publish(Record(OUTCOME, checkpoint, None, headers, record.partition))
    successor = Worker(bus=worker.bus, clock=worker.clock, rules=rules(SWITCH, egress="one"), egresses=TWO)
    await successor.take(successor.record(successor.envelope("m9"), offset=50))
    assert ways(successor) == {("two.example", "192.0.2.2"): 1}
    await successor.clock.advance(601.0)
    successor.handler.sweep()
    await successor.take(successor.record(successor.envelope("m10"), offset=51))
    assert ways(successor)["one.example", "192.0.2.1"] == 1
    await successor.close()


async def test_an_egress_has_its_rate_at_a_site_exactly_and_the_site_has_its_own() -> None:
    """Two a second each, of three for both: in no window more than that and one."""
    worker = Worker(
        rules=rules(rate=Rate(3, 1.0, 1), egress_rate=Rate(2, 1.0, 1), connections=8), egresses=TWO, patience=300.0
    )
    sent: list[tuple[float, str]] = []
    by_recipient = {f"m{n}@site.example": TWO.choose(None, f"m{n}").name for n in range(90)}

    async def note(transaction: Transaction) -> Replied:
        sent.append((worker.clock.now(), by_recipient[transaction.rcpt_to]))
        return Replied("dot", 250, "2.0.0 taken", "2.0.0")

    worker.mailer.answer("mx.test", note)
    await send(worker, 90)
    await worker.clock.advance(20.0)
    assert 55 <= len(sent) <= 61
    for name, most in (("one", 2), ("two", 2), ("", 3)):
        times = [at for at, egress in sent if egress.startswith(name)]
        for start in times:
            for window in (1.0, 5.0):
                assert sum(start <= at < start + window - 1e-6 for at in times) <= most * window + 1
    await worker.close()


async def test_an_egresss_rate_at_a_site_holds_over_its_lanes_and_through_a_move() -> None:
    """Two lanes, two workers, one lane changes hands in the middle: eight a second through each, and the burst."""
    site = Site(
        name="big", lanes=2, connections=8, egress_rate=Rate(8, 1.0, 2), connect_rate=None, mails_per_connection=1000
    )
    kept = rules_with()
    shaped = msgspec.structs.replace(kept, sites=SiteRules(kept.sites.default, [SiteGroup(site, ("big.example",))]))
    first = Worker(rules=shaped, egresses=TWO, patience=1e9)
    second = Worker(
        rules=shaped, egresses=TWO, patience=1e9, bus=first.bus, clock=first.clock, mailer=first.mailer, name="second"
    )
    sent: list[tuple[float, str]] = []

    async def note(transaction: Transaction) -> Replied:
        sent.append((first.clock.now(), TWO.choose(None, transaction.rcpt_to.partition("@")[0]).name))
        return Replied("dot", 250, "2.0.0 taken", "2.0.0")

    first.mailer.answer("mx.test", note)
    records = []
    for number in range(400):
        lane = lane_for(site, f"m{number}")
        records.append(first.record(first.envelope(f"m{number}", domain="big.example", site="big", lane=lane)))
    await first.take(*records)
    await first.clock.advance(8.0)
    moving = lane_partition("big#1", first.partitions)
    leaving = asyncio.create_task(first.handler.revoked({moving}))
    while not leaving.done():
        await first.clock.advance(0.01)
    await second.take(*(each for each in records if each.partition == moving and each.offset not in first.done))
    await first.clock.advance(30.0)
    assert len(sent) == 400
    for name in ("one", "two"):
        times = [at for at, egress in sent if egress == name]
        for start in times:
            for window in (1.0, 4.0):
                assert sum(start <= at < start + window - 1e-6 for at in times) <= 8 * window + 2
    await first.close()
    await second.close()


async def test_a_backlog_over_an_egresss_rate_books_slots_at_that_rate() -> None:
    """One a second: a hundred mails are spread over a hundred seconds of the wheel."""
    only = Egresses([Egress("one", "one.example")])
    worker = Worker(rules=rules(egress_rate=Rate(1, 1.0, 1)), egresses=only, patience=5.0)
    await send(worker, 100)
    waits = [left for _, left in worker.waiting()]
    assert 90 <= len(waits) <= 96
    assert max(waits) == pytest.approx(100.0, abs=3.0)
    await worker.close()


async def test_an_egress_has_its_connections_at_a_site_and_in_the_worker() -> None:
    """Two at a site, three over all; the other egress has its own."""
    egresses = Egresses([msgspec.structs.replace(TWO.all[0], connections=3), TWO.all[1]])
    worker = Worker(rules=rules(egress_connections=2, connections=10), egresses=egresses, patience=300.0)
    busy: Counter[tuple[str, str]] = Counter()
    gate = asyncio.Event()

    async def wait(transaction: Transaction) -> Replied:
        name, _, domain = transaction.rcpt_to.partition("@")
        busy[TWO.choose(None, name).name, domain] += 1
        await gate.wait()
        return Replied("dot", 250, "2.0.0 taken", "2.0.0")

    worker.mailer.answer("mx.test", wait)
    for site in range(3):
        await send(worker, 20, site * 20, domain=f"{site}.example", priority="high")
    await worker.settle()
    assert max(busy.values()) == 2
    through = {name: sum(count for (egress, _), count in busy.items() if egress == name) for name in ("one", "two")}
    assert through == {"one": 3, "two": 6}
    gate.set()
    await worker.clock.advance(5.0)
    assert len(worker.mailer.taken) == 60
    await worker.close()


def _seen(egress: str) -> Any:
    from sluice.domain.bounce import Verdict
    from sluice.domain.triggers import Seen

    return Seen(BLOCKED, Verdict("spam_block", "sender", "bounce", "any"), "site.example", egress=egress)
