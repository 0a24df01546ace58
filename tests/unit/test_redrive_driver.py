"""Planning and driving over the twins, up to the mails that compose makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.compose import PARTITIONS, TEMPLATE, TOPICS, Worker

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.redrive import MemoryContents, MemoryMails, MemoryPlans
from sluice.domain.errors import SluiceError
from sluice.domain.outcome import Source
from sluice.domain.redrive import Action, Candidate, Options, Plan, Word, standing
from sluice.domain.redriven import read_redrive
from sluice.domain.topics import DEAD, SEND, TEMPLATES
from sluice.ports.bus import NotStored, Record
from sluice.ports.intake import Taken
from sluice.ports.records import dead_record
from sluice.ports.redrive import Progress, Reached
from sluice.redrive.driver import Driver, Ended
from sluice.redrive.planning import Wish, make_plan
from sluice.redrive.step import Run

START = 1_800_000_000.0
TOPIC = SEND["normal"]


class Jumping:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Killed(Exception):
    """What a driver dies of in these tests."""


class Scene:
    """So many bounced mails whose events the log still has, and a plan of them."""

    def __init__(self, count: int = 10, **event: Any) -> None:
        self.plans, self.bus, self.clock = MemoryPlans(), MemoryBus(TOPICS), Jumping()
        body = {"tenant_id": "acme", "subject": "Hi", "text": "Hello\n", **event}
        self.events = {
            f"m{n:04}": {**body, "message_id": f"m{n:04}", "to": [{"email": f"u{n}@site.example"}]}
            for n in range(count)
        }
        records = [
            Taken(TOPIC, 0, n, b"site.example", json.dumps(each).encode(), [("ce_source", b"shop")], START)
            for n, each in enumerate(self.events.values())
        ]
        self.contents = MemoryContents(records)
        self.mails = MemoryMails(
            Candidate(
                tenant_id="acme", message_id=name, state="bounced", site="site.example", content=Source(TOPIC, 0, n)
            )
            for n, name in enumerate(self.events)
        )
        self.plan = self.planned()

    def planned(self, plan_id: str = "p1", **fields: Any) -> Plan:
        wish = Wish(plan_id=plan_id, predicate="true", by="jo", at=datetime.fromtimestamp(START, UTC), **fields)
        plan, items = make_plan(wish, self.mails, self.contents)
        self.plans.keep(plan, items)
        self.say("plan", plan_id=plan_id)
        return plan

    def say(self, action: Action, run: str = "", plan_id: str = "p1") -> None:
        self.plans.say(
            Word(plan_id=plan_id, action=action, by="jo", host="h", at=datetime.fromtimestamp(START, UTC), run=run)
        )

    async def drive(
        self, run: str = "r1", told: Callable[[Progress], None] = lambda _: None, plan: Plan | None = None, **given: Any
    ) -> Ended:
        plan = plan or self.plan
        self.say("start", run, plan.plan_id)
        driver = Driver(
            plan, Run(plan.plan_id, run, Options(**given)), plans=self.plans, mails=self.mails,
            contents=self.contents, bus=self.bus, clock=self.clock, told=told,
        )  # fmt: skip
        return await driver.drive()

    @property
    def asked(self) -> list[Record]:
        return [record for topic in SEND.values() for record in self.bus.all(topic)]

    @property
    def driven(self) -> Counter[str]:
        """How often each mail was asked for."""
        return Counter(each.of for record in self.asked if (each := read_redrive(record.headers)))

    def changed(self, message_id: str, **fields: Any) -> None:
        name = ("acme", message_id)
        self.mails.mails[name] = msgspec.structs.replace(self.mails.mails[name], **fields)


async def composed(scene: Scene, keys: Path) -> Worker:
    """A compose worker that has taken everything which was asked for."""
    worker = Worker(keys)
    worker.catalogue.apply(TEMPLATES, b"acme|hello|2", json.dumps({**TEMPLATE, "version": 2}).encode())
    for topic, partition in [(topic, number) for topic in SEND.values() for number in range(PARTITIONS)]:
        records = [
            Taken(topic, partition, offset, record.key, record.value, record.headers, worker.clock.now())
            for offset, record in enumerate(scene.bus.stored[topic, partition])
        ]
        for start in range(0, len(records), 20):
            await worker.take(*records[start : start + 20])
    return worker


async def test_a_plan_is_driven_to_its_end_each_mail_once() -> None:
    scene = Scene(1234)
    seen: list[int] = []
    ended = await scene.drive(told=lambda progress: seen.append(progress.next))
    assert ended.state == "done"
    assert scene.driven == dict.fromkeys(scene.events, 1)
    assert seen == [0, 500, 1000, 1234]
    assert {dict(record.headers)["ce_source"] for record in scene.asked} == {b"shop"}


async def test_a_driven_mail_tells_its_plan_and_its_origin_and_the_origin_tells_that_it_was_driven(
    tmp_path: Path,
) -> None:
    scene = Scene(1)
    await scene.drive(egress="cold")
    worker = await composed(scene, tmp_path)
    (made,) = worker.mails
    assert (made.envelope.redrive_plan, made.envelope.redrive_of, made.envelope.egress) == ("p1", "m0000", "cold")
    by_type = {outcome.event_type: outcome for outcome in worker.outcomes}
    assert by_type.keys() == {"composed", "redriven"}
    assert (by_type["composed"].redrive_plan, by_type["composed"].redrive_of) == ("p1", "m0000")
    first = by_type["redriven"]
    assert (first.message_id, first.redrive_plan, first.redrive_of) == ("m0000", "p1", None)
    assert made.envelope.message_id in (first.reason or "")


async def test_a_driver_killed_between_the_log_and_its_notes_asks_twice_and_compose_makes_one_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(12)

    def die(plan_id: str, batch: Reached) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(scene.plans, "reached", die)
        with pytest.raises(Killed):
            await scene.drive("r1")
    assert scene.plans.progress("p1").next == 0
    assert (await scene.drive("r2")).state == "done"

    assert scene.driven == dict.fromkeys(scene.events, 2)
    worker = await composed(scene, tmp_path)
    assert Counter(mail.envelope.redrive_of for mail in worker.mails) == dict.fromkeys(scene.events, 1)
    said = Counter((outcome.event_type, outcome.category) for outcome in worker.outcomes)
    assert said == {("composed", None): 12, ("redriven", None): 12, ("rejected", "duplicate"): 12}


async def test_two_plans_of_the_same_mails_make_one_mail_of_each(tmp_path: Path) -> None:
    """Made at the same time, they do not know of one another; nor does what they ask for look the same."""
    scene = Scene(5, template={"id": "hello", "variables": {"name": "Jo"}}, subject=None, text=None)
    other = scene.planned("p2")
    await scene.drive()
    await scene.drive("r2", plan=other, template_version=2)
    worker = await composed(scene, tmp_path)
    assert Counter(mail.envelope.redrive_of for mail in worker.mails) == dict.fromkeys(scene.events, 1)
    assert {outcome.category for outcome in worker.outcomes if outcome.event_type == "rejected"} == {
        "idempotency_conflict"
    }


async def test_what_an_earlier_run_has_driven_is_not_asked_for_again() -> None:
    scene = Scene(6)
    scene.changed("m0002", driven_by="p1")
    scene.changed("m0003", driven_by="p0")
    await scene.drive()
    assert set(scene.driven) == set(scene.events) - {"m0002", "m0003"}
    assert scene.plans.progress("p1").skipped == {"driven": 1}


async def test_what_has_changed_since_the_plan_is_asked_at_the_last_moment() -> None:
    scene = Scene(6)
    scene.changed("m0000", state="delivered")
    scene.changed("m0001", suppressed=True)
    scene.changed("m0002", in_doubt=True)
    scene.contents.records[TOPIC, 0, 3] = msgspec.structs.replace(
        scene.contents.records[TOPIC, 0, 3], value=json.dumps(scene.events["m0004"]).encode()
    )
    del scene.contents.records[TOPIC, 0, 4]
    await scene.drive()
    assert list(scene.driven) == ["m0005"]
    assert scene.plans.progress("p1").skipped == {"delivered": 1, "suppressed": 1, "in_doubt": 1, "content": 2}


@pytest.mark.parametrize(("action", "state"), [("pause", "paused"), ("cancel", "cancelled")])
async def test_a_driver_hears_a_pause_and_a_cancellation(action: Action, state: str) -> None:
    scene = Scene(2000)

    def told(progress: Progress) -> None:
        if progress.next == 500:
            scene.say(action)

    ended = await scene.drive(told=told)
    assert (ended.state, ended.why) == (state, f"it was {state} by jo")
    assert len(scene.asked) == 500
    if action == "pause":
        assert (await scene.drive("r2")).state == "done"
        assert scene.driven == dict.fromkeys(scene.events, 1)


async def test_of_two_drivers_the_later_one_goes_on() -> None:
    scene = Scene(2000)

    def told(progress: Progress) -> None:
        if progress.next == 1000:
            scene.say("start", "r2")

    ended = await scene.drive("r1", told=told)
    assert (ended.state, "taken over" in ended.why) == ("running", True)
    assert standing(scene.plans.words("p1")).run == "r2"
    assert (await scene.drive("r3")).state == "done"
    assert scene.driven == dict.fromkeys(scene.events, 1)


@pytest.mark.parametrize(("rate", "seconds"), [("100/s", 10.0), ("1/s", 1000.0), ("60000/min", 1.0)])
async def test_a_rate_is_kept(rate: str, seconds: float) -> None:
    scene = Scene(1000)
    await scene.drive(rate=rate)
    assert scene.clock.now() - START == pytest.approx(seconds, rel=0.02, abs=1.1)


async def test_a_driver_that_waits_for_its_rate_hears_a_pause_within_a_second() -> None:
    scene = Scene(5)

    def told(progress: Progress) -> None:
        if progress.next == 1:
            scene.say("pause")

    assert (await scene.drive(rate="1/h", told=told)).state == "paused"
    assert scene.clock.now() - START <= 1.0


async def test_priority_and_version_are_those_that_are_asked_for(tmp_path: Path) -> None:
    scene = Scene(3, template={"id": "hello", "variables": {"name": "Jo"}}, subject=None, text=None)
    await scene.drive(priority="bulk", template_version=2)
    assert len(scene.bus.all(SEND["bulk"])) == 3
    assert {json.loads(record.value or b"")["template"]["version"] for record in scene.asked} == {2}
    worker = await composed(scene, tmp_path)
    assert {mail.envelope.priority for mail in worker.mails} == {"bulk"}
    assert len(worker.mails) == 3


async def test_a_log_that_does_not_take_the_mails_ends_the_driver_and_nothing_counts_as_driven() -> None:
    scene = Scene(3)
    scene.bus.refusing = NotStored("away")
    with pytest.raises(SluiceError, match="does not take"):
        await scene.drive()
    assert scene.plans.progress("p1") == Progress()


def letters(worker: Worker) -> Sequence[Taken]:
    return [
        Taken(DEAD, 0, offset, record.key, record.value, record.headers, START)
        for offset, record in enumerate(worker.bus.all(DEAD))
    ]


async def test_dead_letters_are_driven_by_a_plan_after_the_fix(tmp_path: Path) -> None:
    """Their events are gone from the topics that they came from, and still lie in the letters."""
    scene = Scene(0)
    worker = Worker(tmp_path, tenant={"signing": [{"domain": "acme.example", "selector": "missing"}]})
    await worker.send(worker.event("m1"), priority="high")
    await worker.send(b"nonsense")
    assert [outcome.event_type for outcome in worker.outcomes] == ["dead", "dead"]
    first = worker.outcomes[0]
    assert first.source == Source("mail.send.high", 0, 0)
    held = dead_record(worker.record(b""), "held in doubt: x")
    worker.bus.publish(held)

    names = ("m1", "mail.send.normal:0:1")
    scene.mails = MemoryMails(Candidate(tenant_id="acme", message_id=name, state="dead") for name in names)
    scene.contents = MemoryContents(letters(worker))
    plan = scene.planned("p9", dead_letters=True)
    assert (plan.mails, plan.excluded) == (1, {"content": 1})

    await scene.drive(plan=plan)
    (asked,) = scene.bus.all(SEND["high"])
    assert dict(asked.headers).keys().isdisjoint(("sluice-reason", "sluice-origin"))
    mended = await composed(scene, tmp_path)
    assert [mail.envelope.redrive_of for mail in mended.mails] == ["m1"]


async def test_one_recipient_of_several_gets_the_mail_that_was_his(tmp_path: Path) -> None:
    scene = Scene(0)
    worker = Worker(tmp_path)
    people = {
        "to": [{"email": "a@x.example"}, {"email": "b@x.example", "variables": {"name": "Bo"}}],
        "cc": [{"email": "c@x.example"}],
        "template": {"id": "hello", "variables": {"name": "you"}},
        "subject": None,
        "text": None,
    }
    record = worker.record(worker.event("m1", **people))
    await worker.take(record)
    before = {mail.envelope.message_id: mail for mail in worker.mails}
    assert before.keys() == {"m1.0", "m1.1", "m1.2"}
    assert {outcome.source for outcome in worker.outcomes} == {Source(TOPIC, 0, 0)}

    scene.contents = MemoryContents([record])
    scene.mails = MemoryMails(
        Candidate(tenant_id="acme", message_id=name, state="bounced", content=Source(TOPIC, 0, 0))
        for name in ("m1.1", "m1.2")
    )
    await scene.drive(plan=scene.planned("p9"))
    after = {mail.envelope.redrive_of: mail for mail in (await composed(scene, tmp_path)).mails}
    assert after.keys() == {"m1.1", "m1.2"}
    assert len({mail.envelope.message_id for mail in after.values()}) == 2
    for name, mail in after.items():
        assert name is not None
        assert mail.envelope.rcpt_to == before[name].envelope.rcpt_to
        assert _fields(mail.content) == _fields(before[name].content)


def _fields(content: bytes) -> list[bytes]:
    """Everything but what is a mail's own."""
    return [line for line in content.splitlines() if not line.startswith((b"Date:", b"Message-ID:"))]
