"""Shares of a limit never add up to more than the whole, and go to those who want them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.domain.errors import Undecodable
from sluice.domain.sharing import CRUMB, EXPIRES, Board, Claim, Report, Shares, decode_report, encode_report

KEY = "tenant:acme"
STEP = 0.25


class Cluster:
    """Workers that read one log, each with a delay of its own and a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[float, Report]] = []
        self.waiting: list[tuple[float, Report]] = []
        self.workers: dict[str, Shares] = {}
        self.demands: dict[str, float] = {}
        self.read: dict[str, int] = {}
        self.delays: dict[str, float] = {}
        self.most = 0.0
        self.least = 1.0

    def join(self, name: str, demand: float, delay: float = 0.0) -> None:
        """A new worker, which has read the log so far."""
        self.workers[name] = Shares(name)
        self.demands[name], self.delays[name], self.read[name] = demand, delay, 0
        self.listen(name)

    def skew(self, name: str) -> float:
        """What the worker's clock shows more than the log's."""
        return 1000.0 * (hash(name) % 7)

    def listen(self, name: str) -> None:
        """Read what has become visible."""
        while self.read[name] < len(self.log) and self.log[self.read[name]][0] + self.delays[name] <= self.now:
            at, report = self.log[self.read[name]]
            self.read[name] += 1
            self.workers[name].hear(report, at, self.now + self.skew(name))

    def say(self, name: str, late: float = 0.0) -> None:
        """Report; the log has it after ``late`` seconds."""
        claims = {KEY: self.demands[name]} if self.demands[name] else {}
        self.waiting.append((self.now + late, self.workers[name].report(claims, self.now + self.skew(name))))
        self.store()

    def store(self) -> None:
        """What has reached the log by now, in the order in which it does."""
        self.log += sorted(((at, report) for at, report in self.waiting if at <= self.now), key=lambda entry: entry[0])
        self.waiting = [(at, report) for at, report in self.waiting if at > self.now]

    def shares(self) -> dict[str, float]:
        """What everybody uses."""
        return {name: worker.share(KEY, self.now + self.skew(name)) for name, worker in self.workers.items()}

    def step(self, seconds: float = STEP) -> None:
        """Time passes; everybody listens."""
        self.now += seconds
        self.store()
        for name in self.workers:
            self.listen(name)
            shares = self.shares().values()
            self.most = max(self.most, sum(shares))
            self.least = min([self.least, *filter(None, shares)])

    def run(self, seconds: float) -> None:
        """Everybody reports every second."""
        for number in range(int(seconds / STEP)):
            if number % 4 == 0:
                for name in list(self.workers):
                    self.say(name)
            self.step()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 4), st.sampled_from([0.0, 0.3, 1.0, 3.0, 6.0])),
        st.tuples(st.just("step"), st.integers(1, 30), st.just(0.0)),
        st.tuples(st.just("demand"), st.integers(0, 4), st.sampled_from([0.0, 1.0, 10.0, 500.0])),
        st.tuples(st.just("delay"), st.integers(0, 4), st.sampled_from([0.0, 0.5, 2.0, 7.0])),
        st.tuples(st.just("leave"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("run"), st.integers(1, 8), st.just(0.0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(actions)
def test_shares_never_add_up_to_more_than_the_whole(script: list[tuple[str, int, float]]) -> None:
    """However late reports reach the log or a reader, whoever joins, leaves, falls silent or changes its mind."""
    cluster = Cluster()
    cluster.join("w0", 10.0)
    cluster.run(3)
    names = {0: "w0"}
    for joined, (action, number, value) in enumerate(script):
        if action in ("step", "run"):
            (cluster.run if action == "run" else cluster.step)(number * (1.0 if action == "run" else STEP))
            continue
        if action == "leave":
            cluster.workers.pop(names.pop(number, ""), None)
            continue
        if number not in names:
            names[number] = f"w{number} of {joined}"
            cluster.join(names[number], 10.0)
        name = names[number]
        if action == "say":
            cluster.say(name, value)
        elif action == "demand":
            cluster.demands[name] = value
        else:
            cluster.delays[name] = value
        cluster.step(0.05)
    assert cluster.most <= 1.0 + 1e-9
    assert cluster.least >= CRUMB


def test_what_is_left_of_a_rounded_sum_is_no_share() -> None:
    """Slots booked with it would be days away."""
    board = Board()
    board.apply(Report("a", 1, {KEY: Claim(7.2, 0.0, 0.9999999999999999)}), 1.0)
    board.apply(Report("b", 1, {KEY: Claim(7.7, 0.0, 0.08)}), 1.1)
    assert board.share(KEY, "b") == 0.0


def test_a_share_rises_until_it_is_what_the_demand_asks_for() -> None:
    """Slots booked meanwhile are too far away."""
    cluster = Cluster()
    cluster.join("a", 30.0)
    cluster.run(3)
    cluster.join("b", 1.0)
    cluster.run(5)
    joined, now = cluster.workers["b"], cluster.now + cluster.skew("b")
    assert not joined.rising(KEY, 1.0, now)
    assert joined.rising(KEY, 30.0, now)
    cluster.demands["b"] = 30.0
    cluster.run(5)
    assert not joined.rising(KEY, 30.0, cluster.now + cluster.skew("b"))


def test_a_worker_that_is_alone_has_everything_within_a_report() -> None:
    """And nothing before the log has it."""
    cluster = Cluster()
    cluster.join("a", 5.0)
    assert cluster.shares() == {"a": 0.0}
    cluster.say("a")
    cluster.step()
    assert cluster.shares() == {"a": 1.0}


def test_shares_follow_demand_within_seconds_of_a_join() -> None:
    """Nine tenths by demand, one tenth evenly."""
    cluster = Cluster()
    cluster.join("a", 30.0)
    cluster.run(3)
    cluster.join("b", 10.0, delay=0.5)
    cluster.run(5)
    assert cluster.shares() == pytest.approx({"a": 0.725, "b": 0.275}, abs=0.02)
    assert cluster.most <= 1.0 + 1e-9


def test_a_share_is_kept_while_nobody_else_asks_for_it() -> None:
    """Less to do is no reason to move shares about."""
    cluster = Cluster()
    cluster.join("a", 30.0)
    cluster.run(2)
    cluster.demands["a"] = 0.5
    cluster.run(2)
    assert cluster.shares() == {"a": 1.0}


def test_what_a_vanished_worker_had_is_taken_once_it_has_certainly_stopped() -> None:
    """By its lease; nobody needs to notice the death."""
    cluster = Cluster()
    cluster.join("a", 10.0)
    cluster.join("b", 10.0)
    cluster.run(5)
    assert cluster.shares() == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.02)
    vanished = cluster.workers.pop("a")
    cluster.run(EXPIRES - 1)
    assert cluster.shares()["b"] == pytest.approx(0.5, abs=0.02)
    assert vanished.share(KEY, cluster.now + cluster.skew("a") + 1) == 0.0
    cluster.run(3)
    assert cluster.shares() == {"b": 1.0}


def test_what_is_given_up_is_free_at_once() -> None:
    """A worker that stops in good order says so."""
    cluster = Cluster()
    cluster.join("a", 10.0)
    cluster.run(3)
    cluster.demands["a"] = 0.0
    cluster.join("b", 10.0)
    cluster.run(2)
    assert cluster.shares() == {"a": 0.0, "b": 1.0}


def test_a_worker_that_cannot_reach_the_log_stops() -> None:
    """Its lease ends, whatever it says to itself."""
    cluster = Cluster()
    cluster.join("a", 10.0)
    cluster.run(2)
    for _ in range(8):
        cluster.say("a", late=100.0)
        cluster.step(1.0)
    assert cluster.shares() == {"a": 0.0}


def test_a_report_is_read_as_it_was_written() -> None:
    """And what is none is refused."""
    shares = Shares("a")
    report = shares.report({KEY: 3.0}, 1.0)
    assert decode_report(encode_report(report)) == report
    with pytest.raises(Undecodable):
        decode_report(b"{}")


def test_a_report_that_the_log_has_too_late_brings_nothing_back() -> None:
    """Said while the share was held, stored after another had taken it over."""
    cluster = Cluster()
    cluster.join("a", 10.0)
    cluster.join("b", 10.0)
    cluster.say("a")
    cluster.step(3.9)
    cluster.say("a", late=1.5)
    cluster.step(1.2)
    cluster.say("b")
    cluster.step(0.1)
    assert cluster.shares() == {"a": 0.0, "b": pytest.approx(0.5, abs=0.5)}
    cluster.step(0.3)
    assert sum(cluster.shares().values()) <= 1.0
    assert cluster.shares()["a"] == pytest.approx(1.0 - cluster.shares()["b"])
