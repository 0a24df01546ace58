"""What a site allows one source address is allowed to it by all workers together, whoever owns the site's lanes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.counting_sink import CountingSink
from tests.support.stack import Stack, wait_for
from tests.support.workers import counting_sink, publish, several_workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RATE, BURST, CONNECTIONS, LANES, MAILS = 24, 2, 3, 2, 1500
SOURCES = {"one": "127.0.0.1", "two": "127.0.0.2"}
RULES = f"""
[[site]]
name = "limited"
domains = ["limited.example"]
rate = "unlimited"
connections = 8
egress_rate = "{RATE}/s,burst={BURST}"
egress_connections = {CONNECTIONS}
lanes = {LANES}
"""


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    """Where everything goes."""
    with counting_sink() as made:
        yield made


@pytest.fixture
def workers(tmp_path: Path, sink: CountingSink) -> Iterator[Stack]:
    """Two deliver workers that have the same two addresses; the first one runs."""
    egresses = {"SLUICE_EGRESSES": " ".join(f"{name}={address}" for name, address in SOURCES.items())}
    with several_workers(tmp_path, sink, deliver=2, sites=RULES, environment=egresses) as made:
        yield made


def test_each_address_keeps_to_its_limit_through_a_join_and_a_leave(workers: Stack, sink: CountingSink) -> None:
    """Counted where the mails arrive, by the address that they came from, in every second."""
    ids = publish(workers, [f"u{number}@limited.example" for number in range(MAILS)])
    wait_for(lambda: sink.arrived()["limited.example"], lambda count: count > 100, 60, "the first mails")
    workers.start("deliver-2")
    time.sleep(6)
    workers.stop("deliver-1")
    wait_for(lambda: workers.equation(ids).delivered, lambda count: count == MAILS, 150, "all mails")
    for source in SOURCES.values():
        assert 0 < sink.busiest_second("limited.example", source) <= RATE + BURST + LANES
        assert 0 < sink.most_open("limited.example", source) <= CONNECTIONS
    rows = workers.query(
        "SELECT egress, uniq(node) AS nodes, count() AS mails FROM {db}.outcomes WHERE event_type = 'delivered' "
        "AND site = 'limited' GROUP BY egress ORDER BY egress"
    )
    assert [row["egress"] for row in rows] == list(SOURCES)
    assert all(int(row["mails"]) > MAILS / 4 for row in rows)
    assert max(int(row["nodes"]) for row in rows) == 2, "the lanes never moved: nothing was shown"
