"""What a lane may do: slots are booked at the rate that is expected when they come."""

from __future__ import annotations

from sluice.deliver.allowance import Allowance
from sluice.domain.adaptive import Give
from sluice.domain.shaping import Rate
from sluice.domain.site import Penalty, Site

SITE = Site(name="site.example", rate=Rate(10, 1.0, 1))
NOW = 1_000_000.0
SERVICE = 0.05


def last_slot(allowance: Allowance, mails: int) -> float:
    """Seconds until the last of a backlog may go."""
    slot = NOW
    for _ in range(mails):
        slot = allowance.book(NOW, SERVICE, 2)
    return slot - NOW


def test_a_long_backlog_is_not_booked_at_the_rate_of_a_penalty_that_will_have_ended() -> None:
    """One mail a minute for 90 minutes; mails booked at that rate for days would expire in the wheel."""
    allowance = Allowance(SITE, 0, NOW)
    allowance.penalise(Penalty(Rate(1, 60.0, 1), 1, 5400.0), NOW)
    assert 5000 < last_slot(allowance, 1000) < 5400 + 100


def test_a_backlog_is_booked_along_the_recovery_of_a_lane_that_gave_way() -> None:
    """Half the rate now, all of it after 450 seconds: 9,000 mails take 1,010 seconds or so, not 1,800."""
    allowance = Allowance(SITE, 0, NOW, Give(recover=900.0))
    allowance.asked_for_less(NOW)
    assert 900 < last_slot(allowance, 9000) < 1100


def test_slots_after_the_end_of_a_triggers_cut_come_at_the_full_rate() -> None:
    """A tenth of 10 a second for ten minutes: 600 mails until then, the other 600 in one minute, not in ten."""
    allowance = Allowance(SITE, 0, NOW)
    allowance.limit(((0.1, NOW + 600.0),), None)
    assert 655 < last_slot(allowance, 1200) < 665


def test_cuts_hold_together_and_end_one_after_the_other() -> None:
    """Half of a fifth for 100 seconds (100 mails), a fifth for 100 more (200 mails), then all."""
    allowance = Allowance(SITE, 0, NOW)
    allowance.limit(((0.5, NOW + 100.0), (0.2, NOW + 200.0)), None)
    assert 203 < last_slot(allowance, 350) < 207
    assert allowance.rate(NOW, SERVICE) == Rate(1.0, 1.0, 1)
    assert allowance.rate(NOW + 150.0, SERVICE) == Rate(2.0, 1.0, 1)
    assert allowance.rate(NOW + 200.0, SERVICE) == SITE.rate


def test_a_backlog_at_the_full_rate_is_booked_evenly() -> None:
    """The ordinary case."""
    assert abs(last_slot(Allowance(SITE, 0, NOW), 1000) - 100.0) < 1.0


def test_a_site_that_cannot_be_reached_is_left_alone_longer_each_time_and_then_as_long_as_it_says() -> None:
    """2, 4, 8 seconds, and after the fourth failure in a row five minutes, by these rules."""
    allowance = Allowance(Site(name="x", failed_connects=4, pause=300.0), 0, NOW)
    pauses = []
    for _ in range(5):
        allowance.connect_failed(NOW)
        pauses.append(allowance.paused(NOW)[0] - NOW)
    assert pauses == [2.0, 4.0, 8.0, 300.0, 300.0]
    assert allowance.turn(NOW, SERVICE) == 300.0
    allowance.connected()
    assert allowance.paused(NOW)[0] == 0.0
    allowance.connect_failed(NOW)
    assert allowance.paused(NOW) == (NOW + 2.0, "its hosts cannot be reached")


def test_an_egress_that_cannot_reach_a_site_does_not_stop_another() -> None:
    """Nothing but the first pauses; the lane is called paused when all that have tried are."""
    allowance = Allowance(Site(name="x"), 0, NOW)
    allowance.connected("two")
    allowance.connect_failed(NOW, "one")
    assert allowance.turn(NOW, SERVICE, "one") == 2.0
    assert allowance.turn(NOW, SERVICE, "two") == 0.0
    assert allowance.paused(NOW)[0] <= NOW
    assert allowance.state().failed_connects == 1
    allowance.connect_failed(NOW, "two")
    allowance.connect_failed(NOW, "two")
    assert allowance.paused(NOW) == (NOW + 2.0, "its hosts cannot be reached")
    assert allowance.paused(NOW, "two")[0] == NOW + 4.0


def test_the_next_owner_goes_on_counting_failures_and_an_operators_word_ends_the_pause() -> None:
    before, after = (Allowance(Site(name="x"), 0, NOW) for _ in range(2))
    for _ in range(3):
        before.connect_failed(NOW, "one")
    after.restore(before.state(), Penalty(), NOW)
    assert after.paused(NOW) == (NOW + 8.0, "its hosts cannot be reached")
    after.connect_failed(NOW, "one")
    assert after.paused(NOW, "one")[0] == NOW + 16.0
    after.suspend(NOW + 100.0)
    after.suspend(0.0)
    assert after.paused(NOW, "one")[0] <= NOW
