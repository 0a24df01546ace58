"""``sluice sites`` against a real Kafka: what operators say is there for workers, and what workers tell is shown."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from confluent_kafka import Producer
from typer.testing import CliRunner

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.lane_states import LOOKED_BACK, read_lane_states
from sluice.commands.root import app
from sluice.domain.adaptive import Pressure
from sluice.domain.lanes import FOREVER, LaneState
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, encode_checkpoint
from sluice.domain.site import lane_partition
from sluice.domain.topics import OUTCOME, SITES
from sluice.runtime import console
from sluice.runtime.config import load_settings

pytestmark = pytest.mark.slow
PARTITIONS = 4


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = EmbeddedKafka.on_free_ports(tmp_path_factory.mktemp("kafka"))
    broker.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_KAFKA_BOOTSTRAP", broker.bootstrap)
        patch.setenv("SLUICE_KAFKA_LANE_PARTITIONS", str(PARTITIONS))
        patch.setenv("SLUICE_ROUTES", "*=smtp://127.0.0.1:2525")
        patch.setenv("USER", "jo")
        patch.setenv("LOGNAME", "jo")
        assert CliRunner().invoke(app, ["topics", "apply"]).exit_code == 0
        yield broker.bootstrap
    broker.stop()
    structlog.reset_defaults()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sites", *arguments])


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def tell(kafka: str, lanes: dict[str, LaneState], partition: int, *, noise: int = 0) -> None:
    """Write a checkpoint as deliver does, and ``noise`` outcomes after it."""
    producer = Producer({"bootstrap.servers": kafka})
    value = encode_checkpoint(Checkpoint({}, [], lanes))
    producer.produce(OUTCOME, value, None, partition, headers=[("ce_type", CHECKPOINT_TYPE.encode())])  # type: ignore[list-item]
    for _ in range(noise):
        producer.produce(OUTCOME, b"{}", b"m", partition, headers=[("ce_type", b"sluice.outcome.v1")])  # type: ignore[list-item]
        producer.poll(0)
    assert producer.flush(20) == 0


def home(lane: str) -> int:
    return lane_partition(lane, PARTITIONS)


def suspended_until(site: str) -> float:
    """What a deliver worker would read."""
    with console.catalogue(load_settings(), (SITES,)) as known:
        return known.suspended_until(site)


def listed() -> dict[str, Any]:
    return {site["site"]: site for site in told("list")["sites"]}


def test_a_suspension_is_what_workers_read_and_a_resumption_takes_it_back(kafka: str) -> None:
    done = told("suspend", "slow.example", "--reason", "they asked")
    assert done["undo"] == "sluice sites resume slow.example"
    assert done["suspended"]["by"].startswith("jo@")
    assert done["replaced"] is None
    assert suspended_until("slow.example") == FOREVER
    assert listed()["slow.example"]["sends"] == "when_resumed"
    found = told("explain", "slow.example")
    assert (found["control"]["reason"], found["sends"]) == ("they asked", "when_resumed")
    assert {lane["state"] for lane in found["lanes"]} == {"suspended"}

    again = told("suspend", "slow.example", "--reason", "for a while", "--for", "2h")
    assert again["replaced"]["reason"] == "they asked"
    assert time.time() + 7100 < suspended_until("slow.example") < time.time() + 7300
    shown = run("show", "slow.example").stdout
    assert "for a while" in shown
    assert "sluice sites resume slow.example" in shown

    assert told("resume", "slow.example")["resumed"]["reason"] == "for a while"
    assert suspended_until("slow.example") == 0.0
    assert "slow.example" not in listed()
    nothing = run("resume", "slow.example")
    assert nothing.exit_code == 1
    assert "slow.example is not suspended" in nothing.stderr


def test_people_are_told_how_to_undo_and_what_was(kafka: str) -> None:
    said = run("suspend", "odd.example", "--reason", "first").stdout
    assert "Undo: sluice sites resume odd.example" in said
    assert "No rule lists odd.example" in said
    assert "This replaces: suspended since" in run("suspend", "odd.example", "--reason", "second").stdout
    assert "second" in run("list").stdout
    assert ": second" in run("resume", "odd.example").stdout


def test_lanes_are_shown_as_their_owner_last_told_of_them(kafka: str) -> None:
    first, second = "google#0", "google#1"
    assert home(first) != home(second)
    busy = LaneState(queued=41, connections=1, rate="20/s,burst=2", node="worker-7")
    paused = LaneState(paused_until=time.time() + 3600, paused_why="its hosts cannot be reached", failed_connects=5)
    tell(kafka, {first: LaneState(queued=1)}, home(first))
    tell(kafka, {first: busy}, home(first), noise=LOOKED_BACK[0] + 50)
    tell(kafka, {second: paused}, home(second))

    lanes = {lane["lane"]: lane for lane in told("explain", "gmail.com", "--offline")["lanes"]}
    assert len(lanes) == 5
    assert (lanes[first]["state"], lanes[first]["queued"], lanes[first]["node"]) == ("open", 41, "worker-7")
    assert lanes[first]["partition"] == home(first)
    assert (lanes[second]["state"], lanes[second]["sends"]) == ("paused", "later")
    assert lanes["google#2"]["state"] == "idle"
    assert {lane["lane"] for lane in listed()["google"]["lanes"]} == {first, second}
    table = run("list").stdout
    assert "worker-7" in table
    assert "its hosts cannot be reached" in table

    tell(kafka, {}, home(first))
    assert {lane["lane"] for lane in listed()["google"]["lanes"]} == {second}


def test_a_lane_is_not_believed_to_be_where_it_is_no_longer(kafka: str) -> None:
    lane = "moved.example#0"
    tell(kafka, {lane: LaneState(pressure=Pressure(0.1, time.time()))}, (home(lane) + 1) % PARTITIONS)
    assert "moved.example" not in listed()


def test_it_is_said_when_there_is_no_checkpoint_among_the_latest_records(kafka: str) -> None:
    lane = "lost.example#0"
    tell(kafka, {lane: LaneState(queued=3)}, home(lane), noise=LOOKED_BACK[-1] + 1)
    assert {one.partition: one.at is None for one in read_lane_states({"bootstrap.servers": kafka})}[home(lane)]
    found = told("show", "lost.example")
    assert found["lanes"][0]["state"] == "idle"
    assert f"partition {home(lane)} of mail.outcome" in found["notes"][0]
