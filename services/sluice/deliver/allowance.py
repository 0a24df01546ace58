"""What a lane may do at this moment: the rules' share of the site's allowance, and everything that cuts it."""

from __future__ import annotations

from sluice.deliver.circuit import Circuit
from sluice.deliver.exits import Exit
from sluice.deliver.pace import Pace
from sluice.domain.adaptive import Give, Pressure, base_rate, eased
from sluice.domain.events import PRIORITIES
from sluice.domain.lanes import LaneState
from sluice.domain.shaping import IDLE, Gcra, Rate, stretched
from sluice.domain.site import Penalty, Site

UNREACHABLE = "its hosts cannot be reached"
RESCALED_KEPT = 20
"""Changes of the rate by rules that are remembered for mails which booked a slot before."""


class Allowance:
    """Rate, connections and pauses of one lane. Times are seconds since the epoch.

    A lane that was just opened has no burst to spend: its owner before may have spent it a moment ago, and nobody asks.
    So the site's limit holds through every move.
    """

    def __init__(self, site: Site, number: int, now: float, give: Give = Give()) -> None:  # noqa: B008  frozen
        self._plain = site.share(number)
        self._circuit = Circuit(site)
        self._give = give
        self._penalty = Penalty()
        self._penalised: dict[str, float] = {}
        self._pressure = Pressure()
        self._cuts: tuple[tuple[float, float], ...] = ()
        self._most: int | None = None
        self._paused_until = 0.0
        self._paused_why = ""
        self._suspended_until = 0.0
        self._gcra = _gcra(self._plain.rate)
        self._sent = now + self._gcra.tolerance if self._gcra else IDLE
        self._exit = Exit(lambda _: self._gcra, self._sent)
        self._booked = [IDLE for _ in PRIORITIES]
        self._rescaled: list[tuple[float, float]] = []
        """When rules changed the rate, and how many times longer an interval was then."""
        self._connects = _gcra(self._plain.connect_rate)
        self._connected = IDLE
        self._through = site.egress_share(number)
        self._paces: dict[str, Pace] = {}

    def follow(self, site: Site, number: int, penalty: Penalty, now: float, service: float) -> None:
        """Other rules: their limits hold from ``now``, and all that was learnt goes on.

        What was sent stays counted, so that no change gives a burst that was not there before; booked slots come as
        much sooner or later as the rate says.
        """
        self._refresh(now, service)
        was, rate = self._gcra, self._plain.rate
        self._plain, self._through = site.share(number), site.egress_share(number)
        self._circuit.follow(site)
        self._gcra = _gcra(self._rate_at(now, service))
        if self._gcra is not None:
            opened = now + self._gcra.tolerance
            self._sent = was.carried(self._sent, self._gcra, now) if was else max(self._sent, opened)
        if rate is None or self._plain.rate is None:
            self._booked = [IDLE for _ in PRIORITIES]
            self._rescaled = []
        elif rate.interval != self._plain.rate.interval:
            scale = self._plain.rate.interval / rate.interval
            self._booked = [stretched(slot, now, scale) for slot in self._booked]
            self._rescaled = [*self._rescaled[1 - RESCALED_KEPT :], (now, scale)]
        connects, self._connects = self._connects, _gcra(self._plain.connect_rate)
        if self._connects is not None:
            opened = now + self._connects.tolerance
            self._connected = connects.carried(self._connected, self._connects, now) if connects else opened
        self._penalty = penalty
        for egress, pace in self._paces.items():
            pace.follow(self._through.rate, now)
            if self._penalised_until(egress) > now:
                pace.slow_down(penalty.rate, self._penalised_until(egress))

    def slot_now(self, slot: float, booked_at: float) -> float:
        """When a slot that was booked at ``booked_at`` comes by the rules in force."""
        for changed_at, scale in self._rescaled:
            if booked_at < changed_at:
                slot = stretched(slot, changed_at, scale)
        return slot

    def connections(self, now: float) -> int:
        """How many may be open; at least one."""
        most = self._plain.connections if self._most is None else min(self._plain.connections, self._most)
        if self._pressure.share >= 1.0:
            return max(1, most)
        return max(1, round(most * self._pressure.share_at(now, self._give)))

    def connections_through(self, egress: str, now: float) -> int:
        """How many of them may be open through ``egress``; at least one."""
        most = self._plain.connections if self._through.connections is None else self._through.connections
        return max(1, min(most, self._penalty.connections) if self._penalised_until(egress) > now else most)

    def rate(self, now: float, service: float, egress: str = "") -> Rate | None:
        """The rate in force; ``service`` is what a mail takes, in seconds. None is unlimited."""
        rates = [self._rate_at(now, service), self._through.rate]
        if self._penalised_until(egress) > now:
            rates.append(self._penalty.rate)
        return max((rate for rate in rates if rate), key=lambda rate: rate.interval, default=None)

    def _penalised_until(self, egress: str) -> float:
        # Before there were several egresses, what was learnt held for whichever there was.
        return max(self._penalised.get(egress, 0.0), self._penalised.get("", 0.0)) if self._penalised else 0.0

    def _rate_at(self, at: float, service: float) -> Rate | None:
        """The rate in force at ``at``, should nothing happen until then."""
        share = self._pressure.share_at(at, self._give)
        for factor, until in self._cuts:
            if at < until:
                share *= factor
        rate = self._plain.rate
        return rate if share >= 1.0 else eased(base_rate(rate, self._plain.connections, service), share)

    def paused(self, now: float, egress: str | None = None) -> tuple[float, str]:
        """Until when nothing may be sent, or nothing through ``egress``, and why; in the past when it may."""
        if self._suspended_until > now and self._suspended_until >= self._paused_until:
            return self._suspended_until, "suspended by an operator"
        unreachable = self._circuit.all_until() if egress is None else self._circuit.until(egress)
        return max((self._paused_until, self._paused_why), (unreachable, UNREACHABLE))

    def book(self, now: float, service: float, rank: int, egress: str = "") -> float:
        """A slot for a mail that has just come: when it may be sent at the earliest, given those booked before.

        Each priority (``rank`` 0 is the highest) books for itself, so that a bulk backlog takes no urgent mail's slot;
        who really goes is decided when a slot comes, by turns. ``egress`` has a rate of its own within the lane.
        """
        pace = self._pace(egress, now)
        slot = self._book(now, service, rank)
        return slot if pace is None else max(slot, pace.book(now, rank))

    def _book(self, now: float, service: float, rank: int) -> float:
        self._refresh(now, service)
        if self._gcra is None:
            return now
        ahead = max(self._booked[rank], self._sent)
        # A lane that gave way recovers: a long backlog must not be booked at the rate of its worst moment.
        gcra = _gcra(self._rate_at(max(ahead, now), service))
        if gcra is None:
            return max(ahead, now)
        self._booked[rank], slot = gcra.reserve(ahead, now)
        return slot

    def turn(self, now: float, service: float, egress: str = "") -> float:
        """Take a turn to send: 0.0 when one may go now, else the seconds until it is worth asking again."""
        wait = self.wait(now, service, egress)
        if not wait:
            if self._gcra is not None:
                self._sent, _ = self._gcra.allow(self._sent, now)
            pace = self._pace(egress, now)
            if pace is not None:
                pace.take(now)
        return wait

    def wait(self, now: float, service: float, egress: str = "") -> float:
        """As :meth:`turn`, and takes none."""
        until, _ = self.paused(now, egress)
        if until > now:
            return until - now
        pace = self._pace(egress, now)
        wait = pace.wait(now) if pace else 0.0
        if wait <= 0:
            self._refresh(now, service)
            if self._gcra is not None:
                wait = max(self._gcra.ready_at(self._sent) - now, self._exit.jam(now))
        return _worth_asking_in(wait)

    def exits(self, now: float, egress: str) -> tuple[Exit, ...]:
        """Where a mail that took a turn leaves, once its attempt is written down."""
        pace = self._pace(egress, now)
        if pace is not None:
            return (self._exit, pace.exit)
        return () if self._gcra is None else (self._exit,)

    def wait_to_connect(self, now: float) -> float:
        """0.0 when a connection may be opened now, else the seconds until it is worth asking again."""
        return _worth_asking_in(self._connects.ready_at(self._connected) - now if self._connects else 0.0)

    def connects(self, now: float) -> None:
        """One is being opened."""
        if self._connects is not None:
            self._connected, _ = self._connects.allow(self._connected, now)

    def connected(self, egress: str = "") -> None:
        """A connection was opened and greeted."""
        self._circuit.connected(egress)

    def connect_failed(self, now: float, egress: str = "") -> None:
        """No host could be reached through ``egress``: it pauses, longer each time in a row."""
        self._circuit.failed(egress, now)

    def pause(self, until: float, why: str) -> None:
        """Send nothing before ``until``."""
        if until > self._paused_until:
            self._paused_until, self._paused_why = until, why

    def suspend(self, until: float) -> None:
        """An operator's word: send nothing before ``until``; 0.0 says nothing.

        Taking a suspension back also ends a pause of our own: whoever resumes a site wants it tried.
        """
        if self._suspended_until and not until:
            self._paused_until, self._paused_why = 0.0, ""
            self._circuit.close()
        self._suspended_until = until

    def ordinary(self, now: float) -> bool:
        """Whether nothing is known but the rules: whoever begins anew would do the same."""
        held = (self._suspended_until, self._paused_until, *self._penalised.values(), *(end for _, end in self._cuts))
        recovered = self._pressure.share_at(now, self._give) >= 1.0
        return recovered and not self._circuit.failures and max(held) <= now

    def asked_for_less(self, now: float) -> None:
        """The site asked for less."""
        self._pressure = self._pressure.asked_for_less(now, self._give)

    def limit(self, cuts: tuple[tuple[float, float], ...], connections: int | None) -> None:
        """Triggers' word: factors of the rate, each until a time, and at most so many connections, None for all."""
        self._cuts, self._most = cuts, connections

    def penalise(self, penalty: Penalty, now: float, egress: str = "") -> None:
        """The site blames the reputation of ``egress``: use the penalty's allowance there while it lasts."""
        self._penalty = penalty
        self._penalise(egress, now + penalty.lasts, now)

    def _penalise(self, egress: str, until: float, now: float) -> None:
        self._penalised[egress] = until
        pace = self._paces.get(egress)
        if pace is not None:
            pace.slow_down(self._penalty.rate, until)
        else:
            self._pace(egress, now)

    def state(self) -> LaneState:
        """What the next owner should know."""
        paused_until, paused_why = max((self._paused_until, self._paused_why), (self._circuit.all_until(), UNREACHABLE))
        return LaneState(
            pressure=self._pressure,
            penalised_until=max(self._penalised.values(), default=0.0),
            penalised=tuple(self._penalised.items()),
            paused_until=paused_until,
            paused_why=paused_why if paused_until else "",
            failed_connects=self._circuit.failures,
        )

    def restore(self, state: LaneState, penalty: Penalty, now: float) -> None:
        """Take over what the owner before had learnt."""
        self._pressure = state.pressure
        self._circuit.restore(state.failed_connects)
        self._paused_until, self._paused_why = state.paused_until, state.paused_why
        self._penalty = penalty
        for egress, until in state.penalised or (("", state.penalised_until),):
            if until > now:
                self._penalise(egress, until, now)

    def _pace(self, egress: str, now: float) -> Pace | None:
        found = self._paces.get(egress)
        if found is not None or (self._through.rate is None and not self._penalised):
            return found
        found = self._paces[egress] = Pace(self._through.rate, now)
        until = self._penalised_until(egress)
        if until > now:
            found.slow_down(self._penalty.rate, until)
        return found

    def _refresh(self, now: float, service: float) -> None:
        """Let the limiter follow the rate in force; what was sent stays counted."""
        rate = self._rate_at(now, service)
        if rate is None:
            self._gcra = None
        elif self._gcra is None or self._gcra.interval != rate.interval:
            self._gcra = Gcra.of(rate)
            self._sent = max(self._sent, now - self._gcra.interval)


def _worth_asking_in(wait: float) -> float:
    """Seconds; so many at least that time goes on meanwhile. 0.0 when there is nothing to wait for."""
    return max(0.001, wait) if wait > 0 else 0.0


def _gcra(rate: Rate | None) -> Gcra | None:
    return Gcra.of(rate) if rate else None
