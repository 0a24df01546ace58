"""What the commands that drive mails again are built on; loaded by them only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import msgspec

from sluice.adapters.clickhouse.redrive_mails import ClickHouseMails
from sluice.adapters.clickhouse.redrive_plans import ClickHousePlans
from sluice.adapters.kafka.contents import KafkaContents
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.system.clock import SystemClock
from sluice.domain.lanes import LaneState
from sluice.ports.bus import Bus
from sluice.ports.clock import Clock
from sluice.ports.redrive import Contents, Mails, Plans
from sluice.runtime import console
from sluice.runtime.config import Settings


class Parts(msgspec.Struct, frozen=True):
    """What there is to ask."""

    plans: Plans
    mails: Mails


@contextmanager
def store(settings: Settings) -> Iterator[Parts]:
    """The plans, and what outcomes say of mails."""
    with console.clickhouse(settings, timeout_s=120) as clickhouse:
        plans = ClickHousePlans(clickhouse)
        yield Parts(plans, ClickHouseMails(clickhouse, plans))


@contextmanager
def contents(settings: Settings) -> Iterator[Contents]:
    """Send events and dead letters that Kafka still holds."""
    found = KafkaContents(console.kafka_options(settings))
    try:
        yield found
    finally:
        found.close()


def lanes(settings: Settings) -> Mapping[str, LaneState]:
    """What deliver's workers last told of their lanes, by name."""
    return {name: state for told in console.lane_states(settings) for name, state in told.lanes.items()}


@asynccontextmanager
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    """Publishes; what is under way is waited for at the end."""
    made = KafkaBus(console.kafka_options(settings), timeout_s=30.0)
    try:
        yield made
    finally:
        await made.close()


def clock() -> Clock:
    """This machine's."""
    return SystemClock()
