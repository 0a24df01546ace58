"""Which partitions are asked for, in which fetch, and how long the broker may keep it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

from sluice.adapters.kafka import fetching
from sluice.adapters.kafka.fetching import LONGEST_WAIT_MS, SHORT_WAIT_MS, UrgencyFetcher

HIGH, BULK = "high", "bulk"
NODE = 1


class Client:
    """As much of aiokafka's client as is asked before anything is sent: one node leads everything."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata_max_age_ms = 60_000
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: NODE, broker_metadata=lambda _: object())


@pytest.fixture
async def fetcher() -> AsyncIterator[UrgencyFetcher]:
    """One that has no assignment of its own and so fetches nothing by itself."""
    made = UrgencyFetcher(Client(), SubscriptionState(), (HIGH, BULK))
    yield made
    await made.close()


def assignment(**partitions: int) -> Any:
    """Partitions 0 and up of each topic, all read from offset 0."""
    state = SimpleNamespace(has_valid_position=True, paused=False, position=0)
    tps = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
    return SimpleNamespace(tps=tps, state_value=lambda _: state)


def buffered(fetcher: UrgencyFetcher, topic: str, partition: int, seconds: float) -> None:
    """Records of a partition were fetched and not read yet; others are not waited with for longer than ``seconds``."""
    tp = TopicPartition(topic, partition)
    fetcher._records[tp] = FetchResult(tp, assignment=None, partition_records=object(), backoff=seconds)


def asked(fetcher: UrgencyFetcher, given: Any) -> dict[int, tuple[set[tuple[str, int]], int]]:
    """By rank: what the next fetches ask for, and how long they wait."""
    fetches = fetcher._get_actions_per_node(given)[0]
    return {
        rank: ({(topic, part[0]) for topic, parts in request.topics for part in parts}, request._max_wait_ms)
        for (_, rank), request in fetches
    }


async def test_each_urgency_has_a_fetch_of_its_own(fetcher: UrgencyFetcher) -> None:
    given = assignment(high=2, bulk=2)
    assert asked(fetcher, given) == {
        0: ({(HIGH, 0), (HIGH, 1)}, LONGEST_WAIT_MS),
        1: ({(BULK, 0), (BULK, 1)}, LONGEST_WAIT_MS),
    }


async def test_bulk_that_was_fetched_and_not_read_does_not_put_off_the_fetch_of_urgent_mail(
    fetcher: UrgencyFetcher,
) -> None:
    """aiokafka's own fetcher asks a node for nothing at all meanwhile."""
    buffered(fetcher, BULK, 0, seconds=60.0)
    assert asked(fetcher, assignment(high=2, bulk=2)).keys() == {0}


async def test_a_fetch_of_bulk_that_is_under_way_does_not_put_off_that_of_urgent_mail(fetcher: UrgencyFetcher) -> None:
    fetcher._in_flight.add((NODE, 1))
    assert asked(fetcher, assignment(high=2, bulk=2)).keys() == {0}
    assert fetcher._in_flight == {(NODE, 1)}


async def test_a_fetch_that_leaves_partitions_out_is_soon_over(fetcher: UrgencyFetcher) -> None:
    """Records that come for the partition left out are in nobody's fetch until then."""
    buffered(fetcher, HIGH, 0, seconds=0.0)
    buffered(fetcher, BULK, 1, seconds=0.0)
    found = asked(fetcher, assignment(high=2, bulk=2))
    assert found == {0: ({(HIGH, 1)}, SHORT_WAIT_MS), 1: ({(BULK, 0)}, 4 * SHORT_WAIT_MS)}


async def test_where_urgent_records_come_fast_their_fetches_are_apart_and_others_are_not(
    fetcher: UrgencyFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch costs the same whether it brings one or ten."""
    now = time.monotonic() + 60.0
    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: now))
    fetcher._arrivals[0].came(60, now)
    given = assignment(high=2, bulk=2)
    now += 0.3
    assert asked(fetcher, given).keys() == {0, 1}
    now += 0.01
    fetches, _, timeout, *_ = fetcher._get_actions_per_node(given)
    assert [rank for (_, rank), _ in fetches] == [1]
    assert timeout == pytest.approx(0.03)
    now += 0.031
    assert asked(fetcher, given).keys() == {0, 1}
