"""A site's limit is one limit, however many workers there are and whoever of them comes, goes or dies."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.support.counting_sink import CountingSink
from tests.support.stack import Stack, wait_for
from tests.support.workers import counting_sink, publish, several_workers

from sluice.domain.site import lane_partition
from sluice.domain.topics import Layout, topics
from sluice.runtime import wiring

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RATE, BURST, CONNECTIONS, LANES = 60, 4, 4, 2
RULES = f"""
[[site]]
name = "limited"
domains = ["limited.example"]
rate = "{RATE}/s,burst={BURST}"
connections = {CONNECTIONS}
lanes = {LANES}
"""


@pytest.fixture(scope="module")
def sink() -> Iterator[CountingSink]:
    """Where everything goes."""
    with counting_sink() as made:
        yield made


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, sink: CountingSink) -> Iterator[Stack]:
    """Three deliver workers, of which only the first runs."""
    with several_workers(tmp_path_factory.mktemp("limits"), sink, deliver=3, sites=RULES) as made:
        yield made


def addresses(count: int) -> list[str]:
    """Seven of eight at the limited site, the others at sites without a limit worth the name."""
    return [f"u{number}@{'limited.example' if number % 8 else f'free{number % 9}.example'}" for number in range(count)]


def all_delivered_within_the_limit(workers: Stack, sink: CountingSink, ids: list[str]) -> None:
    """Counted where the mail arrives, in every second."""
    wait_for(lambda: workers.equation(ids).delivered, lambda count: count == len(ids), 150, "all mails")
    assert sink.busiest_second("limited.example") <= RATE + BURST + LANES
    assert sink.most_open("limited.example") <= CONNECTIONS


def test_rate_and_connections_hold_through_joins_leaves_and_a_death(workers: Stack, sink: CountingSink) -> None:
    """Right after each rebalance too."""
    ids = publish(workers, addresses(1600))
    wait_for(lambda: sink.arrived()["limited.example"], lambda count: count > 100, 60, "the first mails")
    workers.start("deliver-2")
    time.sleep(4)
    workers.start("deliver-3")
    time.sleep(4)
    workers.stop("deliver-1")
    time.sleep(4)
    workers.kill("deliver-2")
    workers.start("deliver-1")
    all_delivered_within_the_limit(workers, sink, ids)
    owners = workers.query(
        "SELECT DISTINCT node FROM {db}.outcomes WHERE event_type = 'delivered' AND site = 'limited'"
    )
    assert len(owners) >= 2, "the lanes never moved: nothing was shown"


def test_rate_and_connections_hold_while_partitions_are_added(workers: Stack, sink: CountingSink) -> None:
    """Lanes move to other partitions and workers while mail flows; no mail is lost on the way."""
    homes = {lane_partition(f"limited#{number}", 4) for number in range(LANES)}
    moved = {lane_partition(f"limited#{number}", 9) for number in range(LANES)}
    assert homes != moved, "these lanes would stay where they are"
    ids = publish(workers, addresses(1600))
    before = sink.arrived()["limited.example"]
    wait_for(lambda: sink.arrived()["limited.example"], lambda count: count > before + 100, 60, "the first mails")
    wiring.topic_admin(workers.local.settings).apply(topics(Layout(lane_partitions=9)))
    all_delivered_within_the_limit(workers, sink, ids)
    rows = workers.query(
        "SELECT DISTINCT source_partition AS partition FROM {db}.outcomes "
        "WHERE event_type = 'delivered' AND site = 'limited' AND message_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    assert {row["partition"] for row in rows} & (moved - homes), "no lane was served in its new partition"
