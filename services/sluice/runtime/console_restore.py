"""What the commands that restore and compare are built on; loaded by them only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from sluice.domain.topics import OUTCOME
from sluice.runtime.config import Settings
from sluice.runtime.console import clickhouse, kafka_options, survey

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.client import ClickHouse
    from sluice.adapters.clickhouse.comparison import Days
    from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
    from sluice.adapters.clickhouse.mirror import ClickHouseReference
    from sluice.adapters.kafka.batches import KafkaBatches
    from sluice.adapters.kafka.places import GroupPlaces
    from sluice.adapters.kafka.survey import Group
    from sluice.adapters.system.clock import SystemClock

_COORDINATOR_S = 30.0
_AT_ONCE_S = 0.5
"""A batch is full long before, but for the last one."""


def places(settings: Settings) -> GroupPlaces:
    """Moves groups."""
    from sluice.adapters.kafka.places import GroupPlaces

    return GroupPlaces(kafka_options(settings))


def group(settings: Settings, name: str) -> Group:
    """How a group stands now; asked again for a while, since a group that is new has no coordinator at first."""
    from sluice.adapters.kafka.survey import KafkaAway

    asking = survey(settings)
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        try:
            return asking.groups([name])[name]
        except KafkaAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def standing(settings: Settings, name: str, spans: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """How far a group has finished ``mail.outcome``, by partition; what is no longer there counts as finished."""
    found = group(settings, name).committed
    return {partition: max(first, found.get((OUTCOME, partition), 0)) for partition, (first, _) in spans.items()}


def spans(settings: Settings, partitions: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """What ``mail.outcome`` holds, by partition: the first offset, and the one after the last."""
    held = survey(settings).spans({OUTCOME: partitions[OUTCOME]})
    return {partition: span for (_, partition), span in held.items()}


def batches(settings: Settings, name: str) -> KafkaBatches:
    """The recorder's own batches, for a group."""
    from sluice.adapters.kafka.batches import KafkaBatches

    return KafkaBatches(
        settings.kafka_bootstrap,
        OUTCOME,
        name,
        max_rows=settings.record_batch_rows,
        max_age=_AT_ONCE_S,
        settings=kafka_options(settings),
    )


def outcomes(store: ClickHouse) -> ClickHouseOutcomes:
    """Where outcomes are kept."""
    from sluice.adapters.clickhouse.insert import ClickHouseOutcomes

    return ClickHouseOutcomes(store)


def mirror(store: ClickHouse) -> ClickHouseReference:
    """The reference topics' mirror."""
    from sluice.adapters.clickhouse.mirror import ClickHouseReference

    return ClickHouseReference(store)


def clock() -> SystemClock:
    """The system's."""
    from sluice.adapters.system.clock import SystemClock

    return SystemClock()


def restored() -> ModuleType:
    """What the tables hold."""
    from sluice.adapters.clickhouse import restored

    return restored


def comparison() -> ModuleType:
    """Compares two databases."""
    from sluice.adapters.clickhouse import comparison

    return comparison


@contextmanager
def other_database(settings: Settings, database: str, url: str | None = None) -> Iterator[ClickHouse]:
    """ClickHouse with another database, or elsewhere, for the same user."""
    changed = {"clickhouse_database": database, **({"clickhouse_url": url} if url else {})}
    with clickhouse(settings.model_copy(update=changed), timeout_s=3600) as store:
        yield store


def days(since: str | None, before: str | None) -> Days:
    """Raises :class:`ValueError` for what is no date."""
    from datetime import date

    from sluice.adapters.clickhouse.comparison import Days

    return Days(date.fromisoformat(since) if since else None, date.fromisoformat(before) if before else None)
