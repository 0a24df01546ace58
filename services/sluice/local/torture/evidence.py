"""Reading what a run has left: in ClickHouse, in the log, and at the sink. Blocks."""

# ruff: noqa: S608  (only the checked database name and constants of Sluice's are put into SQL)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer

from sluice.adapters.clickhouse.client import ClickHouse, ClickHouseAway, ClickHouseRefused
from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.ledger import CHECKPOINT_TYPE
from sluice.domain.topics import OUTCOME
from sluice.local.stack import LocalStack
from sluice.local.torture.publish import Publisher
from sluice.local.torture.reconcile import ENDINGS
from sluice.local.torture.records import Evidence, Injected, Row
from sluice.local.torture.sinklog import read_sink_log
from sluice.runtime import wiring

ABANDONED = "an attempt began and its worker stopped"
"""How the reason begins of what a later owner found in doubt."""


def gather(stack: LocalStack, publisher: Publisher, injected: Iterable[Injected]) -> Evidence:
    """Everything. Raises what ClickHouse and Kafka raise."""
    logged = frozenset(_logged(stack))
    clickhouse = stack.clickhouse
    try:
        return Evidence(
            accepted=dict(publisher.accepted),
            uncertain=frozenset(publisher.uncertain),
            refused=frozenset(publisher.refused),
            holding=frozenset(publisher.holding),
            copies=tuple(read_sink_log(stack.folder.mailbox)),
            rows=tuple(_rows(clickhouse)),
            logged=logged,
            rollup=_rollup(clickhouse),
            injected=tuple(injected),
        )
    finally:
        clickhouse.close()


def endings(stack: LocalStack) -> int | None:
    """How many mails have ended, by ClickHouse; None while it cannot say."""
    listed = ", ".join(f"'{name}'" for name in sorted(ENDINGS))
    clickhouse = stack.clickhouse
    try:
        sql = f"SELECT uniqExact(message_id) AS n FROM {clickhouse.database}.outcomes WHERE event_type IN ({listed})"
        return int(clickhouse.rows(sql)[0]["n"])
    except (ClickHouseAway, ClickHouseRefused):
        return None
    finally:
        clickhouse.close()


def recorded(stack: LocalStack) -> bool:
    """Whether ClickHouse has as many outcomes as the log."""
    clickhouse = stack.clickhouse
    try:
        rows = int(clickhouse.rows(f"SELECT count() AS n FROM {clickhouse.database}.outcomes")[0]["n"])
    except (ClickHouseAway, ClickHouseRefused):
        return False
    finally:
        clickhouse.close()
    return rows >= sum(1 for _ in _logged(stack))


def _rows(clickhouse: ClickHouse) -> Iterator[Row]:
    partitions = clickhouse.rows(f"SELECT DISTINCT log_partition AS n FROM {clickhouse.database}.outcomes")
    sql = (
        "SELECT message_id, event_type, toUnixTimestamp64Milli(event_time) AS at, node, log_offset, "
        f"startsWith(reason, '{ABANDONED}') AS abandoned, "
        "concat(lane, ' ', source_topic, ':', toString(source_partition), ':', toString(source_offset), ' round ', "
        "toString(source_round), ' attempt ', toString(attempt), ' ', category, ' ', reason, ' ', "
        "ifNull(toString(next_attempt_at), '')) AS detail "
        f"FROM {clickhouse.database}.outcomes WHERE log_partition = {{partition:Int32}}"
    )
    for partition in (int(found["n"]) for found in partitions):
        for row in clickhouse.rows(sql, {"partition": partition}):
            yield Row(
                row["message_id"],
                row["event_type"],
                row["at"] / 1000,
                row["node"],
                (partition, row["log_offset"]),
                bool(row["abandoned"]),
                row["detail"].strip(),
            )


def _rollup(clickhouse: ClickHouse) -> dict[str, int]:
    sql = f"SELECT event_type, sum(outcomes) AS n FROM {clickhouse.database}.outcomes_per_minute GROUP BY event_type"
    return {row["event_type"]: int(row["n"]) for row in clickhouse.rows(sql)}


def _logged(stack: LocalStack) -> Iterator[tuple[int, int]]:
    checkpoint = CHECKPOINT_TYPE.encode()
    consumer: Consumer = reader(wiring.kafka_options(stack.settings))
    try:
        for partition in consumer.list_topics(OUTCOME, timeout=20).topics[OUTCOME].partitions:
            low, high = ends(consumer, OUTCOME, partition)
            for message in read_range(consumer, OUTCOME, partition, low, high):
                headers: Any = message.headers() or []
                if dict(headers).get("ce_type") != checkpoint:
                    yield partition, message.offset() or 0
    finally:
        consumer.close()
