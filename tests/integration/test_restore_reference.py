"""Reference topics that are lost are made again from their mirror: what held is there, what was removed is not, and
what was written since stays."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog
from confluent_kafka.admin import AdminClient
from tests.support.parts import kafka_and_clickhouse
from typer.testing import CliRunner

from sluice.adapters.clickhouse import migrations
from sluice.adapters.kafka.follower import KafkaFollower
from sluice.adapters.system.clock import SystemClock
from sluice.commands.root import app
from sluice.domain.conclusion import Recorder
from sluice.domain.reference import Profile, SiteControl, Suppression, Template, TemplateContent, Tenant
from sluice.domain.topics import PROFILES, REFERENCE, SITES, SUPPRESSIONS, TEMPLATES, TENANTS
from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.record.mirror import MIRRORED, Mirror, as_they_are
from sluice.record.reference_rebuild import entries
from sluice.runtime import console, console_restore, wiring
from sluice.runtime.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with kafka_and_clickhouse(tmp_path_factory, SLUICE_HASH_KEY="a-key") as made:
        with console.clickhouse(made) as store:
            migrations.apply(store)
        yield made
    structlog.reset_defaults()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output + done.stderr
    return json.loads(done.stdout)


def record(topic: str, key: str, value: Any) -> Record:
    return Record(topic, None if value is None else msgspec.json.encode(value), key.encode())


def mirrored(settings: Settings, group: str) -> None:
    """As the record service does, until it has caught up."""

    async def follow() -> None:
        stop = asyncio.Event()
        follower = KafkaFollower(wiring.kafka_options(settings), group, MIRRORED)
        mirror = Mirror(
            follower=follower,
            mirror=wiring.reference_mirror(settings),
            clock=SystemClock(),
            hashed=Recorder("", b"a-key").hashed,
        )
        running = asyncio.create_task(mirror.run(stop))
        ends = console.survey(settings).spans(dict.fromkeys(REFERENCE, 1))
        deadline = time.monotonic() + 90
        while True:
            await asyncio.sleep(0.2)
            committed = console_restore.group(settings, group).committed
            if all(committed.get(place, 0) >= end for place, (_, end) in ends.items() if end):
                break
            assert time.monotonic() < deadline, committed
        stop.set()
        await running
        await follower.close()

    asyncio.run(follow())


def lose_all_topics(settings: Settings) -> None:
    """Every reference topic is gone, and there is an empty one of its name."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    for future in admin.delete_topics(list(REFERENCE)).values():
        future.result(60)
    deadline = time.monotonic() + 60
    while set(REFERENCE) & set(console.reach(settings)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert run("topics", "apply").exit_code == 0


def held(settings: Settings) -> dict[tuple[str, str], Any]:
    """What each topic says of each of its keys; keys that were removed are not there."""
    found: dict[tuple[str, str], Any] = {}
    for topic in REFERENCE:
        for each in console.read_topic(settings, topic):
            name = topic, (each.key or b"").decode()
            if each.value:
                found[name] = json.loads(each.value)
            else:
                found.pop(name, None)
    return found


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    with console.clickhouse(settings) as store:
        return store.rows(sql)


def test_lost_topics_are_made_again(settings: Settings) -> None:
    jo = Suppression(tenant_id="acme", email="jo@x.example", reason="complained", created_at=AT)
    text = TemplateContent(subject="Hallo {{ name }} ✓", html="<p>{{ name }}</p>")
    hello = Template(tenant_id="acme", template_id="hello", version=1, locales={"de": text})
    known = Profile(tenant_id="acme", email="jo@x.example", variables={"n": [1, None]})
    acme = Tenant(tenant_id="acme", domains=["acme.example"], name="Acme", rate="100/s")
    records = [
        record(TENANTS, "acme", msgspec.structs.replace(acme, name="Older")),
        record(TENANTS, "acme", acme),
        record(TENANTS, "gone", Tenant(tenant_id="gone", domains=["gone.example"])),
        record(TENANTS, "gone", None),
        record(TEMPLATES, "acme|hello|1", hello),
        record(PROFILES, "acme|jo@x.example", known),
        record(SUPPRESSIONS, "acme|*|jo@x.example", jo),
        record(SUPPRESSIONS, "acme|*|li@x.example", msgspec.structs.replace(jo, email="li@x.example")),
        record(SUPPRESSIONS, "acme|*|li@x.example", None),
        record(SITES, "slow.example", SiteControl(site="slow.example", reason="asked", by="jo@machine", at=AT)),
    ]
    for each in records:
        console.publish(settings, [each])
    mirrored(settings, "first")
    before = held(settings)
    assert len(before) == 5
    assert told("restore", "reference", "--dry-run")["same"] == 7
    people = json.dumps(rows(settings, "SELECT * FROM sluice.ref_records WHERE removed"), default=str)
    assert "li@x.example" not in people, "of what was removed no address stays"

    lose_all_topics(settings)
    # Somebody was quick, and wrote a tenant anew before anything was restored.
    newer = Tenant(tenant_id="acme", domains=["acme.example", "new.example"], name="Acme, later")
    console.publish(settings, [record(TENANTS, "acme", newer)])
    seen = told("restore", "reference", "--dry-run")
    assert {name: seen[name] for name in ("published", "restore", "newer", "gone")} == {
        "published": 0, "restore": 4, "newer": 1, "gone": 2,
    }  # fmt: skip
    assert held(settings).keys() == {(TENANTS, "acme")}
    assert "4 records would be published" in run("restore", "reference", "--dry-run").stdout
    assert run("restore", "reference").exit_code == 2, "nobody was there to be asked"

    assert told("restore", "reference", "--yes")["published"] == 4
    after = held(settings)
    assert after.pop((TENANTS, "acme"))["name"] == "Acme, later"
    assert before.pop((TENANTS, "acme"))["name"] == "Acme"
    assert after == before
    again = told("restore", "reference", "--yes")
    assert (again["published"], again["same"]) == (0, 5)

    # What analysts read counts from the new topics: a later change shows, although its offset is small.
    assert rows(settings, "SELECT name FROM sluice.ref_tenants FINAL") == [{"name": "Acme, later"}]
    console.publish(settings, [record(SUPPRESSIONS, "acme|*|jo@x.example", None)])
    mirrored(settings, "second")
    assert rows(settings, "SELECT count() AS n FROM sluice.ref_suppressions FINAL") == [{"n": 0}]
    assert told("restore", "reference", "--dry-run")["restore"] == 0

    # A person who is erased is not restored.
    assert told("erase", "jo@x.example", "--yes")["profiles"] == 1
    mirrored(settings, "second")
    lose_all_topics(settings)
    told("restore", "reference", "--yes")
    assert {topic for topic, _ in held(settings)} == {TENANTS, TEMPLATES, SITES}


def test_topics_that_came_back_older_are_brought_up_to_date() -> None:
    """As a mirrored cluster that lagged behind: values and removals that it missed, and one that it has newer."""
    hashed = Recorder("", b"a-key").hashed

    def at(offset: int, key: str, value: bytes | None, seconds: float) -> Taken:
        return Taken(TENANTS, 0, offset, key.encode(), value, [], seconds)

    known = as_they_are(
        [at(0, "a", b"1", 10), at(1, "a", b"2", 20), at(2, "b", b"1", 10), at(3, "b", None, 30), at(4, "c", b"1", 10)],
        hashed,
    )
    there = [at(7, "a", b"1", 10), at(8, "b", b"1", 10), at(9, "c", b"9", 11)]
    found = {one.standing: one.record for one in entries(known, there, hashed)}
    assert found == {
        "restore": Record(TENANTS, b"2", b"a"),
        "remove": Record(TENANTS, None, b"b"),
        "newer": None,
    }
