"""What replies do to traffic: how matches are counted, when actions begin and end, and the built-in triggers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.rules import load_rules
from sluice.domain.bounce import DELIVERED, Verdict
from sluice.domain.errors import RuleError
from sluice.domain.smtp import Broken, Replied, Result, Unknown
from sluice.domain.triggers import SUBJECTS_KEPT, Effects, Fired, Seen, Trigger, Triggers, TriggerState

RULES = load_rules()
WAITS = Verdict("transient", "site", "defer", "any")
NO_421 = Replied("rcpt", 450, "busy")
SOME_421 = Replied("banner", 421, "closing")


def seen(result: Result = SOME_421, *, site: str = "there", tenant: str = "t", campaign: str = "c") -> Seen:
    return Seen(result, WAITS, site, tenant, campaign)


def halve(count: int = 3, within: float | None = 60.0, lasts: float = 600.0) -> Trigger:
    return Trigger(id="halve", codes=("421",), count=count, within=within, action="lower_rate", factor=0.5, lasts=lasts)


def run(triggers: Triggers, *steps: tuple[float, Seen]) -> tuple[TriggerState, list[tuple[float, Fired]]]:
    state = TriggerState()
    fired = []
    for now, step in steps:
        state, begun = triggers.update(state, step, now)
        fired += [(now, each) for each in begun]
    return state, fired


def test_one_match_is_enough_when_no_count_is_given() -> None:
    triggers = Triggers([Trigger(id="stop", contains=("tss04",), action="suspend_lane", lasts=7200.0)])
    state, fired = run(triggers, (10.0, seen(Replied("mail", 421, "[TSS04] Messages deferred"))))
    assert [each.until for _, each in fired] == [7210.0]
    assert triggers.effects(state, 7209.9) == Effects(lane_suspended_until=7210.0)
    assert triggers.effects(state, 7210.0) == Effects()


def test_what_does_not_match_leaves_the_state_itself() -> None:
    triggers = Triggers([halve()])
    state = TriggerState()
    assert triggers.update(state, seen(NO_421), 1.0)[0] is state
    assert triggers.update(state, Seen(SOME_421, DELIVERED, "there"), 1.0)[0] is state


@given(
    gaps=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=40),
    count=st.integers(2, 6),
    within=st.floats(1.0, 120.0),
    lasts=st.floats(1.0, 300.0),
)
def test_it_fires_exactly_when_count_matches_lie_in_the_period(
    gaps: list[float], count: int, within: float, lasts: float
) -> None:
    triggers = Triggers([halve(count, within, lasts)])
    state = TriggerState()
    now, ends = 0.0, -1.0
    recent: list[float] = []
    for gap in gaps:
        now += gap
        state, begun = triggers.update(state, seen(), now)
        expected = False
        if now >= ends:
            recent = [*(time for time in recent if time > now - within), now]
            expected = len(recent) >= count
        if expected:
            recent, ends = [], now + lasts
        assert bool(begun) == expected
        assert triggers.effects(state, now).rate_factor == (0.5 if now < ends else 1.0)
        assert all(len(times) < count for times in state.counted.values())


def test_matches_while_the_action_holds_do_not_add_up() -> None:
    triggers = Triggers([halve(count=2)])
    state, fired = run(triggers, *((float(second), seen()) for second in range(20)))
    assert len(fired) == 1
    assert triggers.effects(state, 20.0).rate_factor == 0.5
    _, again = run(triggers, *((float(second), seen()) for second in (0, 1, 601, 602)))
    assert [now for now, _ in again] == [1.0, 602.0]


def test_tenants_and_campaigns_are_counted_each_for_itself() -> None:
    stop = Trigger(id="tenant", categories=("transient",), count=2, within=60.0, action="suspend_tenant", lasts=100.0)
    campaign = Trigger(
        id="campaign", categories=("transient",), count=3, within=60.0, action="suspend_campaign", lasts=200.0
    )
    triggers = Triggers([stop, campaign])
    state, _ = run(
        triggers,
        (0.0, seen(tenant="a", campaign="x")),
        (1.0, seen(tenant="b", campaign="x")),
        (2.0, seen(tenant="a", campaign="")),
        (3.0, seen(tenant="", campaign="x")),
    )
    assert triggers.effects(state, 4.0) == Effects(tenants={"a": 102.0}, campaigns={"x": 203.0})


def test_actions_that_hold_together_are_put_together() -> None:
    def one(name: str, **action: object) -> Trigger:
        return Trigger(id=name, codes=("421",), lasts=100.0, **action)  # type: ignore[arg-type]

    triggers = Triggers(
        [
            one("a", action="lower_rate", factor=0.5),
            one("b", action="lower_rate", factor=0.1),
            one("c", action="lower_connections", connections=3),
            one("d", action="lower_connections", connections=2),
            one("e", action="switch_egress"),
        ]
    )
    state, fired = run(triggers, (5.0, seen()))
    assert len(fired) == 5
    effects = triggers.effects(state, 6.0)
    assert effects.rate_factor == pytest.approx(0.05)
    assert (effects.connections, effects.switched) == (2, {"": ""})


def test_conditions_are_those_of_rules() -> None:
    lost = Trigger(
        id="lost",
        reasons=("disconnected",),
        phases=("data", "dot"),
        action="lower_connections",
        connections=1,
        lasts=9.0,
    )
    here = Trigger(id="here", sites=("here",), enhanced=("4.7.x",), action="suspend_lane", lasts=9.0)
    ruled = Trigger(id="ruled", rules=("session.lost",), action="switch_egress", lasts=9.0)
    triggers = Triggers([lost, here, ruled])

    def ids(step: Seen) -> list[str]:
        return [each.trigger.id for each in triggers.update(TriggerState(), step, 0.0)[1]]

    assert ids(seen(Broken("data", "disconnected"))) == ["lost"]
    assert ids(seen(Broken("rcpt", "disconnected"))) == []
    assert ids(seen(Unknown("disconnected"))) == ["lost"]
    assert ids(seen(Replied("rcpt", 451, "no", "4.7.1"), site="here")) == ["here"]
    assert ids(seen(Replied("rcpt", 451, "no", "4.7.1"), site="there")) == []
    broken = Verdict("bad_connection", "site", "defer", "session.lost")
    assert ids(Seen(Broken("rcpt", "disconnected"), broken, "there")) == ["ruled"]


def test_counters_are_bounded() -> None:
    triggers = Triggers([Trigger(id="t", codes=("421",), count=2, within=1e6, action="suspend_tenant", lasts=60.0)])
    state = TriggerState()
    for number in range(SUBJECTS_KEPT + 5):
        state, _ = triggers.update(state, seen(tenant=str(number)), float(number))
    assert len(state.counted) == SUBJECTS_KEPT
    assert ("t", "0") not in state.counted


@pytest.mark.parametrize(
    "wrong",
    [
        Trigger(id="x", action="suspend_lane", lasts=60.0),
        Trigger(id="x", phases=("rcpt",), action="suspend_lane", lasts=60.0),
        Trigger(id="x", codes=("421",), action="suspend_lane", lasts=0.0),
        Trigger(id="x", codes=("421",), action="suspend_lane", lasts=60.0, count=0),
        Trigger(id="x", codes=("421",), action="suspend_lane", lasts=60.0, count=2),
        Trigger(id="x", codes=("421",), action="suspend_lane", lasts=60.0, within=60.0),
        Trigger(id="x", codes=("421",), action="suspend_lane", lasts=60.0, factor=0.5),
        Trigger(id="x", codes=("421",), action="lower_rate", lasts=60.0),
        Trigger(id="x", codes=("421",), action="lower_rate", lasts=60.0, factor=1.0),
        Trigger(id="x", codes=("421",), action="lower_connections", lasts=60.0),
        Trigger(id="x", codes=("421",), action="lower_connections", lasts=60.0, connections=0),
        Trigger(id="x", codes=("4211",), action="suspend_lane", lasts=60.0),
        Trigger(id="x", contains=("Upper",), action="suspend_lane", lasts=60.0),
        Trigger(id="x", reasons=("timeout",), codes=("421",), action="suspend_lane", lasts=60.0),
    ],
)
def test_triggers_that_cannot_be_followed_are_refused(wrong: Trigger) -> None:
    with pytest.raises(RuleError):
        Triggers([wrong])


def after(count: int, result: Result, site: str, apart: float = 1.0) -> Effects:
    state = TriggerState()
    verdict = RULES.bounces.classify(result, site)
    for number in range(count):
        state, _ = RULES.triggers.update(state, Seen(result, verdict, site, "t", "c"), number * apart)
    return RULES.triggers.effects(state, (count - 1) * apart)


def test_yahoo_is_left_alone_for_two_hours_at_once() -> None:
    deferred = Replied("mail", 421, "[TSS04] Messages from 192.0.2.1 temporarily deferred", "4.7.0")
    assert after(1, deferred, "yahoo").lane_suspended_until == 7200.0
    assert after(1, deferred, "elsewhere").lane_suspended_until is None


def test_microsofts_block_list_suspends_for_an_hour() -> None:
    blocked = Replied("mail", 550, "part of their network is on our block list (S3150).", "5.7.1")
    assert after(1, blocked, "outlook").lane_suspended_until == 3600.0


def test_a_storm_of_421_halves_the_rate() -> None:
    closing = Replied("banner", 421, "closing", "4.3.2")
    assert after(9, closing, "anyone").rate_factor == 1.0
    assert after(10, closing, "anyone").rate_factor == 0.5
    assert after(10, closing, "anyone", apart=10.0).rate_factor == 1.0


def test_a_campaign_refused_again_and_again_is_suspended() -> None:
    spam = Replied("dot", 554, "Message rejected as spam by content filtering", "5.7.1")
    assert dict(after(49, spam, "anyone").campaigns) == {}
    assert set(after(50, spam, "anyone").campaigns) == {"c"}
