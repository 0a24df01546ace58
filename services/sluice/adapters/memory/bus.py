"""A log in memory: the twin of the Kafka bus."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Mapping

from sluice.ports.bus import NotStored, Position, Record


class MemoryBus:
    """Keeps what is published, by topic and partition. Topics exist when named in ``partitions``."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = dict(partitions)
        self.stored: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.refusing: NotStored | None = None
        """When set, what every publication fails with."""

    def publish(self, record: Record) -> asyncio.Future[Position]:
        """See :class:`sluice.ports.bus.Bus`."""
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        if self.refusing is not None:
            future.set_exception(self.refusing)
            return future
        try:
            count = self.partitions(record.topic)
        except NotStored as error:
            future.set_exception(error)
            return future
        partition = zlib.crc32(record.key or b"") % count if record.partition is None else record.partition
        records = self.stored[record.topic, partition]
        records.append(record)
        future.set_result(Position(record.topic, partition, len(records) - 1))
        return future

    def partitions(self, topic: str) -> int:
        """See :class:`sluice.ports.bus.Bus`."""
        if topic not in self._partitions:
            raise NotStored(f"topic {topic} does not exist")
        return self._partitions[topic]

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic."""
        self._partitions[topic] = partitions

    def all(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition."""
        return [record for (name, _), records in sorted(self.stored.items()) if name == topic for record in records]
