"""Demands: the memory twin and Kafka tell every worker the same, in the same order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.demands import KafkaDemands
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.kafka.topics import TopicAdmin
from sluice.adapters.memory.demands import MemoryDemands
from sluice.adapters.system.clock import SystemClock
from sluice.domain.sharing import Claim, Report
from sluice.domain.topics import DEMAND, Layout, topics
from sluice.ports.demands import Demands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with the topic."""
    with EmbeddedKafka.on_free_ports(Path(tmp_path_factory.mktemp("kafka"))) as kafka:
        spec = [spec for spec in topics(Layout()) if spec.name == DEMAND]
        admin = TopicAdmin({"bootstrap.servers": kafka.bootstrap}, 1)
        admin.apply(spec)
        assert [change.action for change in admin.plan(spec)] == ["keep"]
        yield kafka.bootstrap


async def heard(demands: Demands, node: str, count: int) -> list[tuple[Report, float]]:
    """What is read of a test's own reports until there are ``count``."""
    found: list[tuple[Report, float]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [entry for entry in demands.heard() if entry[0].node.startswith(node)]
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("kind", ["memory", "kafka"])
async def test_all_read_the_same_in_the_same_order_and_who_comes_later_too(kind: str, bootstrap: str) -> None:
    """With the same times, which are the log's."""
    bus = KafkaBus({"bootstrap.servers": bootstrap})
    twin = MemoryDemands(SystemClock())
    started: list[KafkaDemands] = []

    def real() -> Demands:
        demands = KafkaDemands({"bootstrap.servers": bootstrap}, bus)
        demands.start()
        assert demands.wait_loaded(20)
        started.append(demands)
        return demands

    member: Callable[[], Demands] = twin.member if kind == "memory" else real
    first, second = member(), member()
    began = time.time()
    for number in range(1, 31):
        (first, second)[number % 2].say(Report(f"t{number % 2}", number, {"tenant:a": Claim(number, 0.1, 0.2)}))
    told = await heard(first, "t", 30)
    assert await heard(second, "t", 30) == told
    assert [report.number for report, _ in told] == list(range(1, 31))
    assert all(began - 2 <= at <= time.time() + 2 for _, at in told)
    assert await heard(member(), "t", 30) == told
    for demands in started:
        demands.stop()
        assert demands.failure is None
    assert await bus.close() == 0
