"""The bus on confluent-kafka's idempotent producer: an awaitable per record, done when the brokers acknowledged it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sluice.adapters.kafka.gathering import Gathering
from sluice.domain.cadence import Cadence
from sluice.domain.spread import Spread
from sluice.ports.bus import NotStored, Position, Record
from sluice.ports.metrics import PUBLISH_ACK, PUBLISH_FAILED, PUBLISH_QUEUE, PUBLISHED, Figure

log = structlog.get_logger(__name__)
REFRESH_S = 5.0
"""Seconds after which the partitions of topics are counted again."""
SOONEST_S = 0.001
"""As fine as the loop's timers are: what is due sooner than that would be looked at in every turn until then."""
_ANY = -1
"""librdkafka's "let the partitioner choose"."""

RESUMED = 32
"""Records whose waiters go on in one turn of the loop. Acknowledgements come by the hundred, and a mail's next step
takes a fraction of a millisecond each: all at once they would keep an urgent mail waiting, at every step of its own."""

_Waiting = tuple[Record, "asyncio.Future[Position]"]
_Settled = tuple["asyncio.Future[Position]", Position | NotStored]


class KafkaBus:
    """Publishes from one event loop. Delivery reports arrive on a thread of its own and are handed over in batches.

    ``options`` are librdkafka's; acks=all, idempotence and Java's partitioner are set here. Memory is bounded by
    librdkafka's queue: :meth:`publish` waits when it is full.

    A record goes at once where none went lately; those that follow it closely go together
    (:class:`sluice.adapters.kafka.gathering.Gathering`). Brokers and readers work per batch more than per record: under
    load this makes batches several times as large as ``linger_ms`` alone, which would delay every record of an idle
    system.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        gather_ms: float = 40.0,
        patience_ms: float = 200.0,
        quiet_ms: float = 5.0,
        linger_ms: float = 3.0,
        timeout_s: float = 120.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(
            {
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "message.timeout.ms": int(timeout_s * 1000),
                "message.max.bytes": 40 * 1024 * 1024,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 128 * 1024,
                **options,
            }
        )
        self._partitions: dict[str, int] = {}
        self._gathered: Gathering[asyncio.Future[Position]] = Gathering(
            gather=gather_ms / 1000,
            patience=patience_ms / 1000,
            quiet=quiet_ms / 1000,
            cadence=Cadence(),
            now=self._loop.time(),
        )
        self._again: asyncio.TimerHandle | None = None
        self._again_at = 0.0
        self._settled: deque[_Settled] = deque()
        self._settled_urgent: deque[_Settled] = deque()
        self._stored: defaultdict[str, int] = defaultdict(int)
        self._refused: defaultdict[str, int] = defaultdict(int)
        self._acks = Spread(PUBLISH_ACK.bounds)
        self._timed: asyncio.Future[Position] | None = None
        self._timed_from = 0.0
        self._wakeup_due = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-reports", daemon=True)
        self._thread.start()

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """See :class:`sluice.ports.bus.Bus`. Order within a partition is the order of the calls."""
        future: asyncio.Future[Position] = self._loop.create_future()
        now = self._loop.time()
        self._gathered.add(record, future, now)
        self._look(now)
        return future

    def _look(self, now: float) -> None:
        """Hand over what is due, and come again when more is."""
        due = self._gathered.due(now)
        if due is not None and due <= now:
            self._hand_over(self._gathered.take(now), now)
            due = self._gathered.due(now)
        if due is None or (self._again is not None and self._again_at <= due):
            return
        if self._again is not None:
            self._again.cancel()
        self._again_at = max(due, now + SOONEST_S)
        self._again = self._loop.call_at(self._again_at, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._look(self._loop.time())

    def _hand_over(self, waiting: list[_Waiting], now: float) -> None:
        """Give records to librdkafka, in order; what it has no room for is gathered again."""
        for number, (record, future) in enumerate(waiting):
            try:
                self._produce(record, future)
            except BufferError:
                self._gathered.put_back(waiting[number:], now)
                return
            except KafkaException as error:
                self._refused[record.topic] += 1
                self._settle(future, NotStored(f"{record.topic}: {error}"), record.urgent)

    def _produce(self, record: Record, future: asyncio.Future[Position]) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                stored = Position(record.topic, message.partition() or 0, message.offset() or 0)
                self._settle(future, stored, record.urgent)
            else:
                self._refused[record.topic] += 1
                self._settle(future, NotStored(f"{record.topic}: {error.str()}"), record.urgent)

        partition = _ANY if record.partition is None else record.partition
        headers: Any = list(record.headers)
        self._producer.produce(record.topic, record.value, record.key, partition, report, headers=headers)
        if self._timed is None:
            # One at a time: enough to see how long acknowledgements take, and costs the others nothing.
            self._timed, self._timed_from = future, time.monotonic()

    def _settle(self, future: asyncio.Future[Position], result: Position | NotStored, urgent: bool) -> None:
        with self._lock:
            (self._settled_urgent if urgent else self._settled).append((future, result))
            if self._wakeup_due:
                return
            self._wakeup_due = True
        self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        """Tell those who wait: for urgent records all, for others some, and the rest in the loop's next turn."""
        with self._lock:
            settled, self._settled_urgent = self._settled_urgent, deque()
            while self._settled and len(settled) < RESUMED:
                settled.append(self._settled.popleft())
            self._wakeup_due = more = bool(self._settled)
        for future, result in settled:
            if future is self._timed:
                self._acks.add(time.monotonic() - self._timed_from)
                self._timed = None
            if isinstance(result, Position):
                self._stored[result.topic] += 1
            if future.done():
                continue
            if isinstance(result, Position):
                future.set_result(result)
            else:
                future.set_exception(result)
        if more:
            self._loop.call_soon(self._resolve)

    def _poll(self) -> None:
        refresh_at = time.monotonic() + REFRESH_S
        while not self._closing.is_set():
            self._producer.poll(0.1)
            if time.monotonic() >= refresh_at:
                self._refresh()
                refresh_at = time.monotonic() + REFRESH_S

    def _refresh(self) -> None:
        """Look whether topics have grown; what cannot be asked now keeps its count."""
        try:
            topics = self._producer.list_topics(timeout=5).topics
        except KafkaException as error:
            log.warning("kafka.metadata", error=str(error))
            return
        for topic in list(self._partitions):
            if (metadata := topics.get(topic)) is not None and metadata.partitions:
                self._partitions[topic] = len(metadata.partitions)

    def partitions(self, topic: str) -> int:
        """See :class:`sluice.ports.bus.Bus`; at most :data:`REFRESH_S` and a moment old."""
        known = self._partitions.get(topic)
        if known is None:
            metadata = self._producer.list_topics(topic, timeout=10).topics.get(topic)
            if metadata is None or metadata.error is not None or not metadata.partitions:
                raise NotStored(f"topic {topic} does not exist; create it with: sluice topics apply")
            known = self._partitions[topic] = len(metadata.partitions)
        return known

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        for topic, count in list(self._stored.items()):
            yield Figure(PUBLISHED, count, (topic,))
        for topic, count in list(self._refused.items()):
            yield Figure(PUBLISH_FAILED, count, (topic,))
        yield Figure(PUBLISH_QUEUE, len(self._producer) + len(self._gathered))
        yield Figure(PUBLISH_ACK, self._acks)

    async def close(self, timeout_s: float = 10.0) -> int:
        """Wait for what is queued; returns how many records were not acknowledged in time."""
        until = time.monotonic() + timeout_s
        left = 1
        while left and time.monotonic() < until:
            now = self._loop.time()
            self._hand_over(self._gathered.take_all(now), now)
            left = await asyncio.to_thread(self._producer.flush, max(0.0, until - time.monotonic()))
            left += len(self._gathered)
        if self._again is not None:
            self._again.cancel()
        self._closing.set()
        await asyncio.to_thread(self._thread.join, 2.0)
        while self._settled or self._settled_urgent:
            self._resolve()
        return int(left)
