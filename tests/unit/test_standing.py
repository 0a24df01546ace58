"""What an intake and the wheel tell of what is in hand: how much, since when, what for."""

from __future__ import annotations

import time

import pytest
from faust.types import TP
from tests.support.figures import by_labels

from sluice.adapters.kafka.standing import Standing
from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.follower import MemoryFollower
from sluice.domain.mail import NOT_BEFORE, PROGRESS, RETURN_TO
from sluice.domain.topics import READY, SEND, WHEEL
from sluice.domain.window import Window
from sluice.ports.intake import Taken
from sluice.wheel.turner import WheelTurner


class Lease:
    """A partition as the intake holds it."""

    def __init__(self) -> None:
        self.tp = TP("mail.ready.high", 0)
        self.window = Window()
        self.bytes = 0
        self.committed: int | None = None


def record(offset: int, stored_at: float) -> Taken:
    """A record of the partition."""
    return Taken("mail.ready.high", 0, offset, None, b"x" * 100, [], stored_at)


def test_lag_is_told_in_records_and_in_the_age_of_the_oldest_that_is_unfinished() -> None:
    standing, lease, now = Standing(), Lease(), time.time()
    for offset in range(10):
        lease.window.take(offset)
        standing.took(record(offset, now - 100 + offset * 10))
    for offset in (0, 1, 2, 4, 5):
        lease.window.finish(offset)

    def told(end: int | None) -> tuple[float, float, float]:
        figures = list(standing.figures([lease], lambda _: end, time.monotonic() - 5))
        names = ("sluice.lag.records", "sluice.lag.age", "sluice.records.unfinished")
        lag, age, unfinished = (by_labels(figures, name)[("mail.ready.high",)] for name in names)
        return lag, age, unfinished

    lag, age, unfinished = told(end=25)
    assert (lag, unfinished) == (22, 5)
    assert age == pytest.approx(70, abs=5)
    assert told(end=None)[0] == 5
    for offset in range(10):
        lease.window.finish(offset)
    assert told(end=10) == (0, pytest.approx(0, abs=0.1), 0)


def test_a_lone_record_that_is_stuck_grows_old_however_often_it_is_asked() -> None:
    """Also when the one before it, of the same half second, is finished."""
    standing, lease, now = Standing(), Lease(), time.time()
    for offset in range(2):
        lease.window.take(offset)
        standing.took(record(offset, now - 600 + offset / 10))
    lease.window.finish(0)
    for _ in range(3):
        figures = list(standing.figures([lease], lambda _: 2, time.monotonic()))
        assert by_labels(figures, "sluice.lag.age")[("mail.ready.high",)] == pytest.approx(600, abs=5)


async def test_what_rests_in_the_wheel_is_told_by_tier_reason_and_when_it_is_due() -> None:
    """And how late it goes."""
    clock, follower = MemoryClock(), MemoryFollower()
    turner = WheelTurner(
        follower, MemoryBus(dict.fromkeys((*WHEEL.values(), *READY.values(), *SEND.values()), 4)), clock
    )

    def resting(tier: str, offset: int, wait: float, return_to: bytes, progress: bytes | None) -> Taken:
        due = str(round((clock.now() + wait) * 1000)).encode()
        headers = [(NOT_BEFORE, due), (RETURN_TO, return_to)]
        headers += [(PROGRESS, progress)] if progress is not None else []
        return Taken(WHEEL[tier], 0, offset, b"k", b"mail", headers, clock.now())

    follower.put(resting("10s", 0, 10, b"mail.ready.high:3", b'{"attempt":1,"reason":"retry","since":1.5}'))
    follower.put(resting("10s", 1, 11, b"mail.ready.high:3", b'{"reason":"rate","slot":3.5}'))
    follower.put(resting("5m", 0, 300, b"mail.send.bulk:1", None))
    follower.put(resting("5m", 1, 310, b"mail.ready.bulk:1", b"{broken"))
    await turner.turn()
    figures = list(turner.figures())
    assert by_labels(figures, "sluice.wheel.resting") == {("10s",): 2, ("5m",): 2}
    waiting = {key[0]: count for key, count in by_labels(figures, "sluice.waiting").items() if count}
    assert waiting == {"retry": 1, "rate": 1, "schedule": 1, "other": 1}
    due = {key[0]: count for key, count in by_labels(figures, "sluice.wheel.due").items() if count}
    assert due == {"10s": 1, "1m": 1, "5m": 2}
    assert by_labels(figures, "sluice.wheel.lateness") == {(): 0}
    await clock.advance(14)
    assert by_labels(turner.figures(), "sluice.wheel.due")[("overdue",)] == 2
    await turner.turn()
    figures = list(turner.figures())
    assert by_labels(figures, "sluice.wheel.resting")[("10s",)] == 0
    assert by_labels(figures, "sluice.wheel.lateness") == {(): 1}
