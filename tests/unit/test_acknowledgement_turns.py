"""Who goes on first when many records were acknowledged at once."""

from __future__ import annotations

import asyncio

from sluice.adapters.kafka.producer import RESUMED, KafkaBus
from sluice.ports.bus import NotStored, Position

NOBODY = {"bootstrap.servers": "127.0.0.1:9", "log_level": 0}


async def test_urgent_mail_goes_on_before_bulk_and_bulk_goes_on_by_and_by() -> None:
    """A burst of acknowledgements must not make one long turn of the loop."""
    bus = KafkaBus(NOBODY)
    loop = asyncio.get_running_loop()
    bulk = [loop.create_future() for _ in range(5 * RESUMED)]
    urgent = loop.create_future()
    for number, future in enumerate(bulk):
        bus._settle(future, Position("bulk", 0, number), urgent=False)
    bus._settle(urgent, Position("urgent", 0, 0), urgent=True)
    await urgent
    gone_on = [future.done() for future in bulk]
    assert sum(gone_on) <= RESUMED
    assert gone_on == sorted(gone_on, reverse=True)
    for _ in range(6):
        await asyncio.sleep(0)
    assert all(future.done() for future in bulk)
    await bus.close(0.1)


async def test_whoever_still_waits_when_the_bus_closes_is_told() -> None:
    """However many they are."""
    bus = KafkaBus(NOBODY)
    loop = asyncio.get_running_loop()
    stored = [loop.create_future() for _ in range(3 * RESUMED)]
    for number, future in enumerate(stored):
        bus._settle(future, Position("bulk", 0, number), urgent=False)
    refused = loop.create_future()
    bus._settle(refused, NotStored("bulk: full"), urgent=False)
    await bus.close(0.1)
    assert all(future.done() for future in stored)
    assert isinstance(refused.exception(), NotStored)
