"""What a new owner makes of the records of the one before."""

from datetime import UTC, datetime

import pytest

from sluice.domain.ledger import Checkpoint, Entry, Finished, Fresh, InDoubt, Ledger, PutOff
from sluice.domain.outcome import OutcomeType, Source

TOPIC = "mail.ready.high"
DUE = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


def entry(
    kind: OutcomeType, offset: int, *, mail: str = "m", round_: int = 0, attempt: int = 1, node: str = "a"
) -> Entry:
    """An outcome about the record at ``offset``, written by ``node``."""
    due = DUE if kind == "deferred" else None
    return Entry(kind, mail, Source(TOPIC, 0, offset, round_), attempt, None, due, node=node)


def test_a_mail_never_seen_is_fresh() -> None:
    """The ordinary case."""
    assert Ledger().take("m", 0, (TOPIC, 1)) == Fresh()


def test_an_attempt_without_outcome_is_in_doubt() -> None:
    """Its worker was killed after the dot, or just before: nobody knows."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5, attempt=3))
    assert ledger.take("m", 0, (TOPIC, 5)) == InDoubt(3)


@pytest.mark.parametrize("kind", ["delivered", "bounced", "expired", "held"])
def test_a_concluded_mail_is_not_tried_again(kind: OutcomeType) -> None:
    """Killed after the outcome, before the commit."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5))
    ledger.replay(entry(kind, 5))
    assert ledger.take("m", 0, (TOPIC, 5)) == Finished("outcome")
    assert ledger.finished_by_topic() == {TOPIC: [(5, 5)]}


def test_a_deferred_mail_is_put_off_again_until_the_same_time() -> None:
    """Killed between the outcome and the wheel."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5))
    ledger.replay(entry("deferred", 5))
    assert ledger.take("m", 0, (TOPIC, 5)) == PutOff(DUE.timestamp(), 1, None)


def test_the_second_copy_of_a_wheel_record_is_a_repeat() -> None:
    """Killed between the wheel and the commit: put off twice, it returns twice, and is sent once."""
    ledger = Ledger()
    assert ledger.take("m", 1, (TOPIC, 8)) == Fresh()
    assert ledger.take("m", 1, (TOPIC, 9)) == Finished("repeat")


def test_the_next_round_of_a_mail_is_not_a_repeat() -> None:
    """A retry is due work."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5))
    ledger.replay(entry("deferred", 5))
    assert ledger.take("m", 1, (TOPIC, 9)) == Fresh()


def test_a_stale_copy_of_an_earlier_round_is_a_repeat() -> None:
    """It comes late, after its successor."""
    ledger = Ledger()
    ledger.replay(entry("delivered", 9, round_=1))
    assert ledger.take("m", 0, (TOPIC, 12)) == Finished("repeat")


def test_a_checkpoint_tells_finished_ranges_and_what_was_under_way() -> None:
    """A straggler that started long ago is found again; what passed it is not repeated."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 11, mail="old"))
    ledger.restore(Checkpoint({TOPIC: [(11, 20)]}, [(TOPIC, 10)]))
    assert ledger.take("x", 0, (TOPIC, 15)) == Finished("outcome")
    assert ledger.take("last of the range", 0, (TOPIC, 20)) == Finished("outcome")
    assert ledger.take("after it", 0, (TOPIC, 21)) == Fresh()
    assert ledger.take("old", 0, (TOPIC, 11)) == Finished("outcome")
    assert ledger.take("straggler", 0, (TOPIC, 10)) == InDoubt(0)


def test_outcomes_after_a_checkpoint_conclude_what_it_called_under_way() -> None:
    """Log order decides."""
    ledger = Ledger()
    ledger.restore(Checkpoint({}, [(TOPIC, 10)]))
    ledger.replay(entry("delivered", 10))
    assert ledger.take("m", 0, (TOPIC, 10)) == Finished("outcome")


def test_memory_of_repeats_is_bounded_and_forgets_the_oldest() -> None:
    """A worker's memory stays flat."""
    ledger = Ledger(memory=2)
    for number in range(3):
        ledger.take(f"m{number}", 0, (TOPIC, number))
    assert ledger.take("m2", 0, (TOPIC, 10)) == Finished("repeat")
    assert ledger.take("m0", 0, (TOPIC, 11)) == Fresh()


def test_an_open_attempt_is_told_on_until_its_record_was_read_again() -> None:
    """Two owners that die one after the other: the second had written a checkpoint before it came to the straggler."""
    ledger = Ledger()
    ledger.restore(Checkpoint({}, [(TOPIC, 10), (TOPIC, 12)]))
    assert ledger.untaken() == [(TOPIC, 10), (TOPIC, 12)]
    assert ledger.take("m", 0, (TOPIC, 10)) == InDoubt(0)
    assert ledger.untaken() == [(TOPIC, 12)]


def test_a_second_copy_of_what_is_in_doubt_is_a_repeat() -> None:
    """Released twice by the wheel, and the first was under way when its worker was killed."""
    ledger = Ledger()
    ledger.restore(Checkpoint({}, [(TOPIC, 10)]))
    assert ledger.take("m", 1, (TOPIC, 10)) == InDoubt(0)
    assert ledger.take("m", 1, (TOPIC, 11)) == Finished("repeat")


def test_a_deferral_stored_after_its_successors_attempt_began_does_not_conclude_that() -> None:
    """Its worker was suspended while Kafka was away: what its producer held came late."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5, attempt=1, node="a"))
    ledger.replay(entry("in_doubt", 5, attempt=1, node="b"))
    ledger.replay(entry("attempted", 5, attempt=2, node="b"))
    ledger.replay(entry("deferred", 5, attempt=1, node="a"))
    assert ledger.take("m", 0, (TOPIC, 5)) == InDoubt(2)


def test_an_attempt_and_its_deferral_that_come_late_together_conclude_no_other() -> None:
    """Both numbers are equal: the successor knew of no attempt."""
    ledger = Ledger()
    for kind, node in (("attempted", "b"), ("attempted", "a"), ("deferred", "a")):
        ledger.replay(entry(kind, 5, node=node))  # type: ignore[arg-type]
    assert ledger.take("m", 0, (TOPIC, 5)) == InDoubt(1)


def test_an_attempt_after_a_deferral_is_open() -> None:
    """The deferral came late, and before the successor's attempt: it would be waited for, and the copy not told."""
    ledger = Ledger()
    ledger.replay(entry("deferred", 5, attempt=0, node="a"))
    ledger.replay(entry("attempted", 5, attempt=1, node="b"))
    assert ledger.take("m", 0, (TOPIC, 5)) == InDoubt(1)


def test_who_has_told_of_the_doubt_may_put_the_mail_off() -> None:
    """As for want of a turn, before another attempt."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5, node="a"))
    ledger.replay(entry("in_doubt", 5, node="b"))
    ledger.replay(entry("deferred", 5, node="b"))
    assert ledger.take("m", 0, (TOPIC, 5)) == PutOff(DUE.timestamp(), 1, None)


def test_a_deferral_concludes_what_only_a_checkpoint_tells_of() -> None:
    """The attempt's own record is too far back."""
    ledger = Ledger()
    ledger.restore(Checkpoint({}, [(TOPIC, 5)]))
    ledger.replay(entry("deferred", 5, attempt=3))
    assert ledger.take("m", 0, (TOPIC, 5)) == PutOff(DUE.timestamp(), 3, None)


def test_what_comes_late_opens_nothing_that_was_concluded() -> None:
    ledger = Ledger()
    for kind, node in (("attempted", "b"), ("delivered", "b"), ("attempted", "a"), ("deferred", "a")):
        ledger.replay(entry(kind, 5, node=node))  # type: ignore[arg-type]
    assert ledger.take("m", 0, (TOPIC, 5)) == Finished("outcome")
    assert ledger.untaken() == []


def test_what_was_handed_back_unsent_is_nobodys_doubt() -> None:
    """A clean hand-over between writing an attempt down and sending its content."""
    ledger = Ledger()
    ledger.replay(entry("attempted", 5, node="a"))
    ledger.restore(Checkpoint({}, [], unsent=[(TOPIC, 5)], node="a"))
    assert ledger.take("m", 0, (TOPIC, 5)) == Fresh()


def test_what_one_hands_back_unsent_leaves_anothers_attempt_open() -> None:
    ledger = Ledger()
    ledger.replay(entry("attempted", 5, node="a"))
    ledger.replay(entry("attempted", 5, node="b", attempt=2))
    ledger.restore(Checkpoint({}, [], unsent=[(TOPIC, 5)], node="a"))
    assert ledger.take("m", 0, (TOPIC, 5)) == InDoubt(2)
