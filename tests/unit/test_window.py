"""The ordered acker commits only what is finished without a gap."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sluice.domain.window import Window, merged


def test_commit_stays_before_an_unfinished_record() -> None:
    """Case 1 of faust-streaming/faust#606: 2585 in flight, 2586 to 2589 done, must not commit 2590."""
    window = Window()
    for offset in range(2584, 2590):
        window.take(offset)
    window.finish(2584)
    for offset in (2586, 2587, 2588, 2589):
        window.finish(offset)
    assert window.committable == 2585


def test_fresh_group_with_the_first_records_in_flight_commits_nothing() -> None:
    """Case 2 of the same: nothing was ever committed, 0 to 4 in flight, 5 done."""
    window = Window()
    for offset in range(6):
        window.take(offset)
    window.finish(5)
    assert window.committable is None


def test_the_last_gap_closing_commits_everything_behind_it() -> None:
    """Case 3: the straggler finishes."""
    window = Window()
    for offset in range(5):
        window.take(offset)
    for offset in (1, 2, 3, 4, 0):
        window.finish(offset)
    assert window.committable == 5
    window.committed(5)
    assert window.finished_beyond() == []


def test_offsets_that_hold_no_record_do_not_hold_the_commit_up() -> None:
    """Case 4: compaction and transactions leave holes."""
    window = Window()
    for offset in (10, 14, 20):
        window.take(offset)
    window.finish(14)
    assert window.committable is None
    assert window.finished_beyond() == [(14, 14)]
    window.finish(10)
    assert window.committable == 15
    window.finish(20)
    assert window.committable == 21


def test_what_an_earlier_owner_finished_needs_no_work() -> None:
    """Ranges of a checkpoint are passed over, and committed with the prefix."""
    window = Window([(3, 5)])
    assert [window.take(offset) for offset in range(7)] == [True, True, True, False, False, False, True]
    for offset in (0, 1, 2):
        window.finish(offset)
    assert window.committable == 6


def test_a_record_read_twice_is_taken_once() -> None:
    """A consumer may seek back."""
    window = Window()
    assert window.take(7)
    assert not window.take(7)
    window.finish(7)
    assert not window.take(7)
    assert window.committable == 8


def test_the_prefix_is_told_until_its_commit_is_stored() -> None:
    """A worker killed between the two: who reads on from the old commit must know what was finished."""
    window = Window()
    for offset in range(4):
        window.take(offset)
    for offset in (0, 1, 2):
        window.finish(offset)
    assert window.finished_beyond() == [(0, 2)]
    window.committed(2)
    assert window.finished_beyond() == [(2, 2)]
    window.committed(3)
    assert window.finished_beyond() == []


def test_what_an_earlier_owner_finished_is_told_on_before_it_is_read_again() -> None:
    """Two owners that die one after the other: the second had not come that far."""
    window = Window([(1, 9)])
    window.take(0)
    assert window.finished_beyond() == [(1, 9)]
    assert not window.take(1)
    assert window.finished_beyond() == [(1, 9)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))))
def test_ranges_are_merged_without_losing_or_adding_an_offset(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    offsets = [offset for first, last in found for offset in range(first, last + 1)]
    assert offsets == sorted({offset for first, last in ranges for offset in range(first, last + 1)})
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


class Interleaving(RuleBasedStateMachine):
    """Any order of taking and finishing, with crashes that restart from the commit and the last checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.next = 0
        self.committed = 0
        self.open: set[int] = set()
        self.finished: set[int] = set()

    @rule(skip=st.integers(0, 3))
    def take(self, skip: int) -> None:
        """Read the next record, over holes."""
        offset = self.next + skip
        self.next = offset + 1
        if self.window.take(offset):
            assert offset not in self.finished
            self.open.add(offset)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Finish any record that is open."""
        offset = data.draw(st.sampled_from(sorted(self.open)))
        self.window.finish(offset)
        self.open.discard(offset)
        self.finished.add(offset)

    @rule()
    def hand_over(self) -> None:
        """A clean hand-over: the next owner starts at the commit, knowing what was finished beyond it."""
        self.committed = committed = self.window.committable or self.committed
        self.window = Window(self.window.finished_beyond())
        replayed = sorted(offset for offset in self.open | self.finished if offset >= committed)
        for offset in replayed:
            assert self.window.take(offset) == (offset in self.open), "repeated what was finished, or lost what was not"
        if not replayed and self.next:
            assert not self.open

    @invariant()
    def commit_never_passes_an_open_record(self) -> None:
        """The rule that loses no mail."""
        if self.window.committable is not None and self.open:
            assert self.window.committable <= min(self.open)


Interleaving.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInterleaving = Interleaving.TestCase
