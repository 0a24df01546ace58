"""Which records wait for others, and until when. Time is moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.kafka.gathering import Gathering
from sluice.domain.cadence import Cadence
from sluice.ports.bus import Record

GATHER, PATIENCE, QUIET, LONGEST = 0.040, 0.200, 0.005, 0.030


def gathering() -> Gathering[int]:
    cadence = Cadence(together=8, longest=LONGEST)
    return Gathering(gather=GATHER, patience=PATIENCE, quiet=QUIET, cadence=cadence, now=0.0)


def record(topic: str = "t", *, urgent: bool = False, awaited: bool = True, patient: bool = False) -> Record:
    return Record(topic, b"x", partition=0, urgent=urgent, awaited=awaited, patient=patient)


def went(kept: Gathering[int], now: float) -> list[int]:
    due = kept.due(now)
    return [tag for _, tag in kept.take(now)] if due is not None and due <= now else []


def test_the_first_record_after_a_quiet_goes_at_once() -> None:
    kept = gathering()
    kept.add(record(), 1, 10.0)
    assert went(kept, 10.0) == [1]
    assert kept.due(10.0) is None


def test_those_that_follow_go_together_once_nothing_more_comes() -> None:
    kept = gathering()
    kept.add(record(), 1, 10.0)
    assert went(kept, 10.0) == [1]
    for number, now in enumerate((10.001, 10.004, 10.008), 2):
        kept.add(record(), number, now)
        assert went(kept, now) == []
    assert kept.due(10.008) == pytest.approx(10.008 + QUIET)
    assert went(kept, 10.0131) == [2, 3, 4]


def test_what_nobody_waits_for_stays_for_as_long_as_may_be() -> None:
    kept = gathering()
    kept.add(record(), 1, 10.0)
    assert went(kept, 10.0) == [1]
    kept.add(record(awaited=False), 2, 10.001)
    assert kept.due(10.001) == pytest.approx(10.0 + GATHER)
    assert went(kept, 10.0401) == [2]


def test_one_of_a_backlog_waits_until_something_that_is_in_more_of_a_hurry_goes() -> None:
    kept = gathering()
    kept.add(record(), 1, 10.0)
    assert went(kept, 10.0) == [1]
    kept.add(record(patient=True), 2, 10.010)
    kept.add(record("other", patient=True, awaited=False), 3, 10.020)
    assert kept.due(10.020) == pytest.approx(10.0 + PATIENCE)
    assert went(kept, 10.199) == []
    kept.add(record("third"), 4, 10.199)
    assert went(kept, 10.199) == [2, 3, 4], "gathered for longer than it waits for"
    kept.add(record(patient=True), 5, 10.210)
    assert went(kept, 10.3991) == [5]


def test_an_urgent_record_goes_at_once_and_takes_what_its_topic_kept_along() -> None:
    kept = gathering()
    kept.add(record(), 1, 10.0)
    assert went(kept, 10.0) == [1]
    kept.add(record("t"), 2, 10.001)
    kept.add(record("other"), 3, 10.001)
    kept.add(record("t", urgent=True), 4, 10.002)
    assert went(kept, 10.002) == [2, 4]
    assert went(kept, 10.0401) == [3]


def test_many_urgent_records_go_together_and_none_waits_longer_than_the_cadence() -> None:
    kept = gathering()
    now, sizes, waiting = 10.0, [], {}
    for number in range(2_000):
        now = 10.0 + number * 0.005
        kept.add(record(urgent=True), number, now)
        waiting[number] = now
        for at in (now, now + 0.0025):
            left = went(kept, at)
            assert all(at - waiting.pop(tag) <= LONGEST + 0.0051 for tag in left)
            sizes += [len(left)] if left else []
    # Before the rate is known each goes alone.
    assert sizes[0] == 1
    assert min(sizes[-100:]) >= 5


def test_what_there_was_no_room_for_goes_first_later() -> None:
    kept = gathering()
    for number in range(4):
        kept.add(record(), number, 10.0)
    taken = kept.take_all(10.0)
    kept.add(record(), 4, 10.001)
    kept.put_back(taken[2:], 10.002)
    assert len(kept) == 3
    assert went(kept, 10.003) == []
    assert went(kept, 10.043) == [2, 3, 4]


steps = st.lists(
    st.tuples(
        st.floats(0.0, 0.05),
        st.sampled_from("ab"),
        st.sampled_from(["urgent", "awaited", "told", "patient"]),
    ),
    min_size=1,
    max_size=60,
)


@given(steps)
def test_each_record_goes_once_in_order_of_its_topic_and_in_time(steps: list[tuple[float, str, str]]) -> None:
    """As its owner looks: when something comes, and when something is due."""
    kept, now, order, since = gathering(), 10.0, {}, {}

    def look(at: float) -> None:
        while (due := kept.due(at)) is not None and due <= at:
            for each, tag in kept.take(at):
                order.setdefault(each.topic, []).append(tag)
                assert at - since.pop(tag) <= (PATIENCE if each.patient else GATHER) + 1e-9

    for number, (pause, topic, kind) in enumerate(steps):
        until = now + pause
        while (due := kept.due(now)) is not None and due <= until:
            now = max(now, due)
            look(now)
        now = until
        flags = {kind: True} if kind in ("urgent", "patient") else {"awaited": kind == "awaited"}
        kept.add(record(topic, **flags), number, now)
        since[number] = now
        look(now)
    while (due := kept.due(now)) is not None:
        now = max(now, due)
        look(now)
    assert not since
    assert all(tags == sorted(tags) for tags in order.values())
