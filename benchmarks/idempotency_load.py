"""How long a new owner needs to load a partition's idempotency keys from Kafka, and what they take in memory.

Run: ``python benchmarks/idempotency_load.py --keys 1000000``. Starts a broker of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.kafka.seen_log import KafkaSeenLog
from sluice.adapters.kafka.topics import TopicAdmin
from sluice.domain.repeats import Seen, encode_seen, seen_key
from sluice.domain.topics import IDEMPOTENCY, Layout, topics


def fill(bootstrap: str, count: int) -> float:
    """Write ``count`` keys into partition 0; returns seconds."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 20})
    began, now = time.monotonic(), time.time()
    for number in range(count):
        value = encode_seen(Seen(f"0190b2f0-0000-7000-8000-{number:012d}", f"{number:032x}", now))
        while True:
            try:
                producer.produce(IDEMPOTENCY, value, seen_key("acme", f"order-{number}"), 0)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()
    return time.monotonic() - began


async def main() -> None:
    """Fill, load, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    count = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka.on_free_ports(Path(folder)) as kafka:
        TopicAdmin({"bootstrap.servers": kafka.bootstrap}, 1).apply(topics(Layout(send_partitions=1)))
        written = fill(kafka.bootstrap, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        log = KafkaSeenLog({"bootstrap.servers": kafka.bootstrap}, window=86_400.0, limit=count + 1)
        began = time.monotonic()
        keys = await log.load(0, time.time())
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(keys):,} keys written in {written:.1f} s, loaded in {took:.1f} s ({len(keys) / took:,.0f}/s)")
    print(f"resident memory grew by at most {(after - before) / 1024:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
