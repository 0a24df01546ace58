"""The wheel turns: what rests, what moves on, what is committed."""

from __future__ import annotations

import msgspec

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.follower import MemoryFollower
from sluice.domain.mail import NOT_BEFORE, PROGRESS, PUBLISHED_AT, RETURN_TO
from sluice.domain.topics import DEAD, READY, SEND, WHEEL
from sluice.ports.intake import Taken
from sluice.ports.metrics import WHEEL_RESTING
from sluice.ports.spans import Rested
from sluice.wheel.turner import RESTING_IN_ALL, RESTING_RECORDS, WheelTurner

TOPICS = dict.fromkeys((*WHEEL.values(), DEAD), 1) | dict.fromkeys((*READY.values(), *SEND.values()), 4)


class Wheel:
    """A wheel over the twins."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.bus = MemoryBus(TOPICS)
        self.follower = MemoryFollower()
        self.turner = WheelTurner(self.follower, self.bus, self.clock)

    def record(self, tier: str, offset: int, wait: float, return_to: str = "mail.ready.high:3") -> Taken:
        """A record that entered a tier now."""
        due = str(round((self.clock.now() + wait) * 1000)).encode()
        headers = [("sluice-envelope", b"{}"), (NOT_BEFORE, due), (RETURN_TO, return_to.encode())]
        return Taken(WHEEL[tier], 0, offset, b"k", b"mail", headers, self.clock.now())

    async def turn_after(self, seconds: float) -> None:
        """Move time, then turn."""
        await self.clock.advance(seconds)
        await self.turner.turn()


async def test_a_mail_returns_when_it_is_due_and_not_before() -> None:
    """To the partition that it came from, without the wheel's headers."""
    wheel = Wheel()
    wheel.follower.put(wheel.record("10s", 0, 10.0))
    await wheel.turner.turn()
    await wheel.turn_after(9.9)
    assert wheel.bus.all(READY["high"]) == []
    assert wheel.follower.committed == {}
    await wheel.turn_after(0.2)
    (record,) = wheel.bus.stored[READY["high"], 3]
    assert record.value == b"mail"
    assert record.headers == [("sluice-envelope", b"{}")]
    assert wheel.follower.committed == {(WHEEL["10s"], 0): 1}


async def test_a_long_wait_cascades_down_the_tiers() -> None:
    """25 minutes: out of 15m into 5m, with its due time kept."""
    wheel = Wheel()
    record = wheel.record("15m", 0, 1500.0)
    wheel.follower.put(record)
    await wheel.turner.turn()
    await wheel.turn_after(900.0)
    (moved,) = wheel.bus.all(WHEEL["5m"])
    assert dict(moved.headers)[NOT_BEFORE] == dict(record.headers)[NOT_BEFORE]
    assert wheel.bus.all(READY["high"]) == []


async def test_what_is_left_below_the_smallest_tier_waits_in_memory() -> None:
    """No hop for seven seconds."""
    wheel = Wheel()
    wheel.follower.put(wheel.record("10s", 0, 17.0))
    await wheel.turner.turn()
    await wheel.turn_after(16.5)
    assert wheel.turner.resting == 1
    await wheel.turn_after(0.6)
    assert len(wheel.bus.all(READY["high"])) == 1


async def test_a_record_due_later_does_not_hold_the_commit_of_one_before_it_wrongly() -> None:
    """Only what has moved on is committed: a crash finds the rest again."""
    wheel = Wheel()
    wheel.follower.put(wheel.record("10s", 0, 19.0), wheel.record("10s", 1, 10.0))
    await wheel.turner.turn()
    await wheel.turn_after(10.5)
    assert len(wheel.bus.all(READY["high"])) == 1
    assert wheel.follower.committed == {}
    await wheel.turn_after(9.0)
    assert wheel.follower.committed == {(WHEEL["10s"], 0): 2}


async def test_a_scheduled_event_returns_to_its_topic_by_partition_or_key() -> None:
    """``return-to`` without a partition leaves the choice to the key."""
    wheel = Wheel()
    wheel.follower.put(wheel.record("10s", 0, 10.0, "mail.send.bulk"))
    await wheel.turner.turn()
    await wheel.turn_after(10.0)
    assert len(wheel.bus.all(SEND["bulk"])) == 1


async def test_a_record_that_names_no_time_or_no_place_is_buried_and_passed() -> None:
    """A wheel that anybody can stop with one bad header would be no wheel."""
    wheel = Wheel()
    good = wheel.record("10s", 2, 10.0)
    wheel.follower.put(
        Taken(WHEEL["10s"], 0, 0, None, b"x", [], wheel.clock.now()),
        wheel.record("10s", 1, 10.0, "__consumer_offsets:0"),
        good,
    )
    await wheel.turner.turn()
    await wheel.turn_after(10.0)
    assert len(wheel.bus.all(DEAD)) == 2
    assert len(wheel.bus.all(READY["high"])) == 1
    assert wheel.follower.committed == {(WHEEL["10s"], 0): 3}


async def test_memory_is_bounded_by_holding_back_a_full_partition() -> None:
    """And it is read again when there is room."""
    wheel = Wheel()
    wheel.follower.put(*(wheel.record("1h", offset, 3600.0) for offset in range(RESTING_RECORDS)))
    await wheel.turner.turn()
    assert wheel.follower.paused == {(WHEEL["1h"], 0)}
    await wheel.turn_after(3600.0)
    assert wheel.follower.paused == set()
    assert len(wheel.bus.all(READY["high"])) == RESTING_RECORDS


async def test_memory_is_bounded_over_all_partitions_and_each_keeps_its_head() -> None:
    """A worker that has many partitions, each with large mails, is not larger for it."""
    wheel, size, each = Wheel(), 1024 * 1024, 20
    value = bytes(size)
    for offset in range(each):
        for tier in WHEEL:
            wheel.follower.put(msgspec.structs.replace(wheel.record(tier, offset, 10_000.0), value=value))
        await wheel.turner.turn()
    held = {figure.labels[0]: figure.value for figure in wheel.turner.figures() if figure.metric is WHEEL_RESTING}
    assert len(held) == len(WHEEL)
    assert all(held.values())
    assert RESTING_IN_ALL <= wheel.turner.resting * size <= RESTING_IN_ALL + len(WHEEL) * size
    await wheel.turn_after(10_000.0)
    await wheel.turn_after(1.0)
    assert wheel.turner.resting == 0
    assert wheel.follower.committed == {(topic, 0): each for topic in WHEEL.values()}


async def test_what_rested_of_a_partition_that_left_is_forgotten() -> None:
    """Its new owner reads it again; two releases would be two copies."""
    wheel = Wheel()
    wheel.follower.put(wheel.record("10s", 0, 10.0))
    await wheel.turner.turn()
    wheel.follower.revoke((WHEEL["10s"], 0))
    await wheel.turn_after(20.0)
    assert wheel.bus.all(READY["high"]) == []


class Told:
    """Hears of what has left the wheel."""

    def __init__(self) -> None:
        self.rested_: list[Rested] = []

    def rested(self, _: object, rested: Rested) -> None:
        """See :class:`sluice.ports.spans.Spans`."""
        self.rested_.append(rested)


async def test_how_long_it_rested_is_told_when_it_leaves_the_wheel_and_not_between_tiers() -> None:
    """Since it was put off, or, of an event for later, since it was published."""
    wheel, told = Wheel(), Told()
    wheel.turner._spans = told  # type: ignore[assignment]
    put_in = wheel.clock.now()
    put_off = wheel.record("5m", 0, 305.0)
    put_off.headers.append((PROGRESS, f'{{"reason":"retry","since":{put_in - 1}}}'.encode()))
    scheduled = wheel.record("5m", 1, 306.0, "mail.send.normal:1")
    scheduled.headers.append((PUBLISHED_AT, str(round((put_in - 9_000) * 1000)).encode()))
    odd = wheel.record("5m", 2, 307.0)
    odd.headers.append((PROGRESS, b'{"since":-1e300}'))
    wheel.follower.put(put_off, scheduled, odd)
    await wheel.turner.turn()
    await wheel.turn_after(308.0)
    found = [(each.to, each.reason, round(each.until - each.since)) for each in told.rested_]
    assert found == [
        ("mail.ready.high", "retry", 309),
        ("mail.send.normal", "schedule", 9_308),
        ("mail.ready.high", "other", 308),
    ]
    assert [round(each.until - each.due) for each in told.rested_] == [3, 2, 1]
