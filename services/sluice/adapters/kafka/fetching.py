"""Fetching each urgency apart, so that a backlog of one cannot keep another's records at the broker.

aiokafka has one fetch under way to each broker, for all partitions of which nothing is buffered, and begins no other
until that one has ended. Under a backlog that costs urgent records twice: a fetch carries megabytes of bulk before
them, and a fetch that began while their partition was still being read waits for records of others, for as long as it
may. Here each urgency has fetches of its own, on a connection of its own, since a broker answers the requests of one
connection one after the other.

A fetch that brings one record costs the broker, this thread and the loop behind it as much as one that brings ten. So
where records of an urgency come fast, its fetches are a little apart (:mod:`sluice.domain.cadence`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from sluice.domain.cadence import Arrivals, Cadence

LONGEST_WAIT_MS = 500
"""How long the broker keeps a fetch that finds nothing."""
SHORT_WAIT_MS = 20
"""The same of a fetch of the most urgent that leaves partitions out, since they were still being read: they must be
asked for soon. Each rank below waits four times as long."""
FETCH_BYTES = 1024 * 1024
"""What one fetch brings at most. Brokers send a larger batch alone, and nothing of one that does not fit (KIP-74)."""

Route = tuple[int, int]
"""Node and rank of urgency: what one fetch at a time goes to."""


class _Connections:
    """aiokafka's client, with a connection for each route instead of each node."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, route: Route | int, request: Any) -> Any:
        if isinstance(route, int):
            return await self._client.send(route, request)
        node, rank = route
        # aiokafka's own groups are 0 and 1; any other value that can be hashed is as good.
        return await self._client.send(node, request, group=f"urgency-{rank}")


class _Share:
    """What one rank has of an assignment, as aiokafka looks at one."""

    def __init__(self, assignment: Any, partitions: list[TopicPartition]) -> None:
        self.tps = partitions
        self.state_value = assignment.state_value


class UrgencyFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher for consumers of ``topics``, the most urgent named first."""

    def __init__(self, client: Any, subscriptions: Any, topics: Iterable[str], **options: Any) -> None:
        self._ranks = {topic: rank for rank, topic in enumerate(topics)}
        now = time.monotonic()
        self._arrivals = {rank: Arrivals(Cadence(), now) for rank in range(len(self._ranks) + 1)}
        self._began: dict[Route, float] = {}
        options |= {"fetch_max_bytes": FETCH_BYTES, "fetch_max_wait_ms": LONGEST_WAIT_MS}
        self._in_flight: set[Any]
        self._failed: Exception | None = None
        super().__init__(_Connections(client), subscriptions, **options)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        """As aiokafka's, for each rank by itself; what it calls nodes are routes."""
        now = time.monotonic()
        fetches: list[tuple[Route, FetchRequest]] = []
        resets: dict[Route, list[TopicPartition]] = {}
        timeout, stale, resumed = self._fetcher_timeout, False, []
        under_way: set[Route] = self._in_flight
        for rank, partitions in self._by_rank(assignment.tps).items():
            self._in_flight = {node for node, other in under_way if other == rank}
            try:
                actions = super()._get_actions_per_node(_Share(assignment, partitions))
            finally:
                self._in_flight = under_way
            for node, request in actions[0]:
                rest = self._began.get((node, rank), 0.0) + self._arrivals[rank].gap(now) - now
                if rest > 0:
                    timeout = min(timeout, rest)
                    continue
                asked = sum(len(parts) for _, parts in request.topics)
                if asked < sum(self._select_read_replica(tp) == node for tp in partitions):
                    wait = min(SHORT_WAIT_MS * 4**rank, LONGEST_WAIT_MS)
                    request._max_wait_ms = wait  # noqa: SLF001  it is aiokafka that makes requests
                self._began[node, rank] = now
                fetches.append(((node, rank), request))
            resets.update({(node, rank): parts for node, parts in actions[1].items()})
            timeout, stale = min(timeout, actions[2]), stale or actions[3]
            resumed += actions[4]
        return fetches, resets, timeout, stale, resumed

    def _by_rank(self, partitions: Iterable[TopicPartition]) -> Mapping[int, list[TopicPartition]]:
        found: dict[int, list[TopicPartition]] = {}
        for tp in partitions:
            found.setdefault(self._rank(tp), []).append(tp)
        return found

    def _rank(self, tp: TopicPartition) -> int:
        return self._ranks.get(tp.topic, len(self._ranks))

    async def fetched_records(
        self,
        partitions: Any,
        timeout: float = 0,  # noqa: ASYNC109  aiokafka's own
        max_records: int | None = None,
    ) -> Any:
        """Up to ``max_records`` of each rank, the most urgent first; waits for any when there are none."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        found: dict[TopicPartition, Any] = {}
        for _, wanted in sorted(self._by_rank(partitions or self._records).items()):
            try:
                found.update(await super().fetched_records(wanted, 0, max_records))
            except Exception as error:
                if not found:
                    raise
                # What was found counts as read, so it is handed out first.
                self._failed = error
                break
        if not found and timeout:
            found = await super().fetched_records(partitions, timeout, max_records)
        now = time.monotonic()
        for tp, records in found.items():
            self._arrivals[self._rank(tp)].came(len(records), now)
        return found


async def fetch_by_urgency(consumer: Any, topics: Iterable[str]) -> None:
    """Have a started ``aiokafka.AIOKafkaConsumer`` that was not used yet fetch by the urgency of ``topics``."""
    # aiokafka makes its fetcher itself, and says what it makes it of in private only.
    names = (
        "key_deserializer", "value_deserializer", "fetch_min_bytes", "max_partition_fetch_bytes", "check_crcs",
        "retry_backoff_ms", "auto_offset_reset", "client_rack",
    )  # fmt: skip
    options = {name: getattr(consumer, f"_{name}") for name in names}
    # Faust reads what was never committed unless it writes transactions itself: an event that its producer took back.
    options["isolation_level"] = "read_committed"
    await consumer._fetcher.close()  # noqa: SLF001
    consumer._fetcher = UrgencyFetcher(consumer._client, consumer._subscription, topics, **options)  # noqa: SLF001
