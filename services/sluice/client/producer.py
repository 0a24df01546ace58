"""The client: publishes send events and waits for the log's acknowledgement."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sluice.client import identity
from sluice.client.errors import NotPublished
from sluice.client.prepare import MailLike, Prepared, prepare
from sluice.client.results import Progress, Receipt, Refusal, Summary
from sluice.client.stream import publish_stream
from sluice.domain.errors import Refused
from sluice.domain.events import Priority
from sluice.domain.idempotency import guard_partition

Report = Callable[[Receipt | Refused | NotPublished], None]
"""Told once what became of a record; runs on the client's own thread and must not raise."""

_ANY = -1
"""librdkafka's "let the partitioner choose"."""

_PARTITIONS_KEPT_S = 300.0
_QUEUE_FULL_PAUSE_S = 0.005

_NEVER_STORED = frozenset(
    (
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - the library's public names for its local errors
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    )
)

_BATCH_SIZE = 1_000_000

_DEFAULTS: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 5,
    "batch.size": _BATCH_SIZE,
    "message.timeout.ms": 60_000,
    "message.max.bytes": 40 * 1024 * 1024,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 128 * 1024,
}


class Client:
    """Publishes send events. Safe to share between threads; make it after forking, not before.

    ``source`` names the publishing service in outcomes. ``kafka_options`` are librdkafka's, dots written as underscores
    where Python needs it: ``Client("kafka:9092", source="shop", security_protocol="SASL_SSL")``. Memory is bounded by
    librdkafka's queue (100,000 events, 128 MiB): publishing waits while it is full.
    """

    def __init__(self, bootstrap: str, *, source: str = "my-service", **kafka_options: Any) -> None:
        self._source = source
        options = {_option(name): value for name, value in kafka_options.items()}
        self._producer = Producer(
            {
                **_DEFAULTS,
                "bootstrap.servers": bootstrap,
                "client.id": source,
                "logger": logging.getLogger("sluice.client"),
                **options,
            }
        )
        self._batch_size = int(options.get("batch.size", _BATCH_SIZE))
        self._partitions: dict[str, tuple[int, float]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="sluice-client", daemon=True)
        self._thread.start()

    def send(self, mail: MailLike, priority: Priority | None = None, *, timeout: float = 60.0) -> Receipt:
        """Publish and wait until the log stored it durably, at most ``timeout`` seconds.

        Raises :class:`Refused` (the event is wrong, nothing was published), or :class:`NotPublished`.
        """
        future = self.submit(mail, priority)
        try:
            return future.result(timeout)
        except FutureTimeout as error:
            raise NotPublished(f"no acknowledgement within {timeout:g} s", certain=False) from error

    def submit(self, mail: MailLike, priority: Priority | None = None) -> Future[Receipt]:
        """Publish without waiting for the log; waits only while the queue is full.

        The future's errors are those of :meth:`send`; what is known at once (a wrong event, no such topic) is raised
        here. The first event to a topic looks it up. What is not acknowledged when the process ends is lost: keep the
        future, or end with :meth:`close`.
        """
        prepared = self.prepare(mail, priority)
        while True:
            try:
                return self.enqueue(prepared)
            except BufferError:
                time.sleep(_QUEUE_FULL_PAUSE_S)

    def send_many(
        self,
        mails: Iterable[MailLike],
        priority: Priority | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        on_refused: Callable[[Refusal], None] | None = None,
        on_failed: Callable[[str, NotPublished], None] | None = None,
    ) -> Summary:
        """Publish a stream of any length and wait until every event of it is settled.

        A wrong event is counted, told to ``on_refused`` and left out; what the log did not acknowledge is counted and
        told to ``on_failed`` with its message id. ``progress`` is called about five times a second. All three are
        called on the calling thread. Raises :class:`NotPublished` when the stream cannot go on at all (no such topic,
        no cluster from the start); what was taken before is still published.
        """
        return publish_stream(self, mails, priority, progress, on_refused, on_failed)

    def prepare(self, mail: MailLike, priority: Priority | None = None) -> Prepared:
        """Validate and encode without publishing; raises :class:`Refused`."""
        return prepare(
            mail,
            priority,
            source=self._source,
            new_id=identity.new_message_id,
            now=datetime.now(UTC).isoformat(timespec="milliseconds"),
            traceparent=identity.traceparent(),
        )

    def enqueue(self, prepared: Prepared) -> Future[Receipt]:
        """Hand a prepared record to the producer; raises :class:`BufferError` at once when its queue is full."""
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()  # what is queued cannot be called back

        def report(result: Receipt | Refused | NotPublished) -> None:
            if isinstance(result, Receipt):
                future.set_result(result)
            else:
                future.set_exception(result)

        self.produce(prepared, report)
        return future

    def produce(self, prepared: Prepared, report: Report) -> None:
        """As :meth:`enqueue`, telling ``report``. Raises :class:`Refused` or :class:`NotPublished` when not queued."""
        if self._closing.is_set():
            raise RuntimeError("the client is closed")

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                place = (message.partition() or 0, message.offset() or 0)
                report(Receipt(prepared.message_id, prepared.topic, *place))
            else:
                report(self._refused_by_broker(prepared, error))

        partition = self._partition(prepared)
        try:
            self._producer.produce(
                prepared.topic, prepared.value, prepared.key, partition, delivered, headers=prepared.headers
            )
        except KafkaException as error:
            raise _fault(prepared.topic, error.args[0], queued=False) from error

    def partitions(self, topic: str, *, timeout: float = 10.0) -> int:
        """How many partitions a topic has: asked of the cluster every five minutes, while it answers.

        Raises :class:`NotPublished` when there is no such topic, or the cluster never answered.
        """
        count, until = self._partitions.get(topic, (0, 0.0))
        if time.monotonic() < until:
            return count
        try:
            found = self._producer.list_topics(topic, timeout=timeout).topics.get(topic)
        except KafkaException as error:
            if not count:
                raise _fault(topic, error.args[0], queued=False) from error
            self._partitions[topic] = count, time.monotonic() + _PARTITIONS_KEPT_S
            return count
        if found is None or found.error is not None or not found.partitions:
            raise NotPublished(f"topic {topic} does not exist; create it with: sluice topics apply", certain=True)
        self._partitions[topic] = len(found.partitions), time.monotonic() + _PARTITIONS_KEPT_S
        return len(found.partitions)

    def knows(self, topic: str) -> bool:
        """Whether :meth:`partitions` answers without asking the cluster."""
        return time.monotonic() < self._partitions.get(topic, (0, 0.0))[1]

    def flush(self, timeout: float = 60.0) -> int:
        """Wait until everything queued is settled, at most ``timeout`` seconds; returns how many are not."""
        return int(self._producer.flush(timeout))

    def close(self, timeout: float = 60.0) -> int:
        """:meth:`flush` and stop; returns how many events were not acknowledged. A second call does nothing."""
        if self._closing.is_set():
            return 0
        left = self.flush(timeout)
        self._closing.set()
        self._thread.join(5.0)
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.close()
        if left and error is None:
            raise NotPublished(f"{left} events were not acknowledged before closing", certain=False)

    def _refused_by_broker(self, prepared: Prepared, error: KafkaError) -> Refused | NotPublished:
        """The broker refuses a whole batch for its size: an event smaller than a batch need not be the one at fault."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and len(prepared.value) < self._batch_size:
            reason = f"{prepared.topic}: its max.message.bytes is below the client's batch_size; lower that"
            return NotPublished(reason, certain=True)
        return _fault(prepared.topic, error)

    def _partition(self, prepared: Prepared) -> int:
        partitions = self.partitions(
            prepared.topic
        )  # also for the default partitioner: a missing topic is told at once
        if prepared.idempotency_key is None:
            return _ANY
        return guard_partition(prepared.tenant_id, prepared.idempotency_key, partitions)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)


def _option(name: str) -> str:
    """``security_protocol`` as librdkafka's ``security.protocol``; callbacks keep their underscore."""
    return name if "." in name or name.endswith(("_cb", "_callback")) else name.replace("_", ".")


def _fault(topic: str, error: KafkaError, *, queued: bool = True) -> Refused | NotPublished:
    """librdkafka's error in our words."""
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return Refused("value", f"the event is larger than {topic} takes", "too_large")
    return NotPublished(f"{topic}: {error.str()}", certain=not queued or error.code() in _NEVER_STORED)
