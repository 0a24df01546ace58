"""A lane's queue, its share of the site's allowance, and the decision who waits where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from sluice.deliver.allowance import Allowance
from sluice.deliver.exits import Exit
from sluice.deliver.flow import RANK, Flow
from sluice.deliver.item import Item
from sluice.deliver.paths import Path
from sluice.deliver.slots import Slots
from sluice.domain.egress import Egress
from sluice.domain.lanes import LaneState
from sluice.domain.mail import Mail
from sluice.domain.priorities import Priorities
from sluice.domain.rules import Rules
from sluice.domain.shaping import WeightedChooser
from sluice.domain.site import Site, lane_number
from sluice.domain.triggers import Effects, Fired, Seen, Triggers, TriggerState
from sluice.ports.clock import Clock

SITE_RATE = "the site's rate"
FORGOTTEN_S = 900.0
"""Seconds without mail after which a lane that is as the rules say is forgotten, and a place in a line is."""
QUICKEST_S = 0.001
"""Seconds: the least that a mail is taken to keep a connection busy."""
LONGEST_GUESS = 300.0
"""Seconds that a mail is put off at most when only a guess says how long connections will be busy."""
LONGEST_PAUSE = 300.0
"""Seconds that a mail of a paused lane is put off at most: an operator may resume the lane before."""


class Wait(msgspec.Struct, frozen=True):
    """The mail should wait in the wheel until ``until`` (seconds since the epoch), for ``reason``: ``what``."""

    until: float
    reason: Literal["rate", "connection"]
    what: str = SITE_RATE


class Lane:
    """What this worker has to do at one site through one lane. Times are seconds since the epoch."""

    def __init__(
        self,
        name: str,
        site: Site,
        number: int,
        clock: Clock,
        priorities: Priorities = Priorities(),  # noqa: B008  frozen
    ) -> None:
        self.name = name
        self.site = site
        self.allowance = Allowance(site, number, clock.now())
        self.flows: dict[tuple[str, str], Flow] = {}
        self.switched: Mapping[str, str] = {}
        """Egresses that triggers keep its mail from, as :attr:`sluice.domain.triggers.Effects.switched` says."""
        self._clock = clock
        self._priorities = priorities
        self._chooser = WeightedChooser(priorities.weights)
        self.slots = self._slots(lambda: self.allowance.connections(clock.now()))
        self._per_egress: dict[str, Slots] = {}
        self.service = 0.05
        """Seconds that a mail keeps a connection busy: the geometric mean, which one of five minutes hardly moves."""
        self.used_at = clock.now()
        self._running: dict[Item, float] = {}
        self._fallen: list[Item] = []
        self._triggered = TriggerState()
        self._effects = Effects()

    def follow(self, rules: Rules, now: float) -> None:
        """Other rules are in force: their limits, and their triggers; what was learnt goes on."""
        name, number = lane_number(self.name)
        self.site = rules.sites.named(name)
        self.allowance.follow(self.site, number, rules.sites.penalty, now, self.service)
        self._triggered = rules.triggers.carried(self._triggered)
        self._apply(rules.triggers, now)

    def flow(self, egress: Egress, path: Path, *more: Slots) -> Flow:
        """The flow that takes ``egress`` and ``path``; its connections count in the lane's slots and in ``more``."""
        key = (egress.name, path.key)
        found = self.flows.get(key)
        if found is None:
            slots = (self._slots_through(egress.name), self.slots, *more)
            found = self.flows[key] = Flow(self, egress, path, slots, self._chooser)
        found.path = path
        found.used_at = self.used_at = self._clock.now()
        return found

    def forget_flows(self, now: float) -> None:
        """Drop flows that nobody uses; one whose mails come back finds its place in a line for a while."""
        for key, flow in list(self.flows.items()):
            waits = flow.stamp is not None and now - flow.used_at < FORGOTTEN_S
            if not flow.seats and not len(flow) and not waits:
                del self.flows[key]

    def forgotten(self, now: float) -> bool:
        """Whether nothing would be lost with the lane: a site that got one mail need not be remembered for good."""
        unused = not self.flows and not self.slots.taken and now - self.used_at > FORGOTTEN_S
        return unused and self.allowance.ordinary(now)

    def _slots_through(self, egress: str) -> Slots:
        """What the site lets a single egress have."""
        if egress not in self._per_egress:
            self._per_egress[egress] = self._slots(
                lambda: self.allowance.connections_through(egress, self._clock.now())
            )
        return self._per_egress[egress]

    def _slots(self, total: Callable[[], int]) -> Slots:
        return Slots(total, self._priorities, self._chooser)

    @property
    def queued(self) -> int:
        """Mails waiting in memory."""
        return sum(map(len, self.flows.values()))

    def hindered(self, item: Item, now: float, patience: float) -> Wait | None:
        """Whether a mail that has just arrived has to wait elsewhere, because the lane pauses or is busy."""
        mail, egress = item.mail, item.egress.name if item.egress else ""
        until = max(self.allowance.paused(now, egress)[0], self._suspended(mail))
        if until - now > patience:
            return Wait(min(until, now + LONGEST_PAUSE), "connection")
        rank = RANK[mail.envelope.priority]
        guess = self._busy_for(now, rank)
        if guess > patience:
            return Wait(now + min(guess, LONGEST_GUESS), "connection")
        return None

    def booked(self, item: Item, now: float, patience: float) -> Wait | None:
        """Where a mail that may go as far as others are concerned waits for the rate: None for here, in memory.

        A mail over the rate books a slot, and comes back for it: most wait in the wheel once, however long the backlog.
        One that has come back stays, though the wheel is a little early, unless rules put its slot off.
        """
        mail, egress = item.mail, item.egress.name if item.egress else ""
        was = mail.progress.slot
        if was is None or mail.progress.slot_of == "shared":
            slot = self.allowance.book(now, self.service, RANK[mail.envelope.priority], egress)
        else:
            slot = self.allowance.slot_now(was, mail.progress.since or now)
            if slot == was:
                return None
        return Wait(slot, "rate") if slot - now > patience else None

    def _busy_for(self, now: float, rank: int) -> float:
        """How long until a mail queued now would get a connection, guessed from what mails take here.

        Only those of its own priority and above stand before it; the turns that the others get are few.
        """
        before = sum(len(queue) for flow in self.flows.values() for queue in flow.queues[: rank + 1])
        if not before:
            return 0.0
        serve = self.allowance.connections(now) if rank == 0 else self.slots.general_most
        usual = 1.0 / self.service
        # Each connection by itself: one on which the site is silent holds up its own mail, and nobody else's.
        pace = sum(min(usual, 1.0 / max(now - started, QUICKEST_S)) for started in self._running.values())
        return before / min(pace + usual * max(0, serve - len(self._running)), usual * serve)

    def _suspended(self, mail: Mail) -> float:
        """Until when a trigger keeps the mail's tenant or campaign from this lane; 0.0 when none does."""
        tenants, campaigns = self._effects.tenants, self._effects.campaigns
        if not tenants and not campaigns:
            return 0.0
        envelope = mail.envelope
        return max(tenants.get(envelope.tenant_id, 0.0), campaigns.get(envelope.campaign_id or "", 0.0))

    def saw(self, triggers: Triggers, seen: Seen, now: float) -> tuple[Fired, ...]:
        """Count a reply; what it set off is in force at once, and returned."""
        self._triggered, fired = triggers.update(self._triggered, seen, now)
        if fired:
            self.follow_triggers(triggers, now)
        return fired

    def follow_triggers(self, triggers: Triggers, now: float) -> None:
        """Let effects that have lasted their time end; cheap when there are none."""
        if self._triggered.active:
            self._apply(triggers, now)

    def _apply(self, triggers: Triggers, now: float) -> None:
        self._effects = triggers.effects(self._triggered, now)
        self.allowance.limit(self._effects.cuts, self._effects.connections)
        self.switched = self._effects.switched
        if self._effects.lane_suspended_until is not None:
            self.allowance.pause(self._effects.lane_suspended_until, "a trigger's rule")

    def drop(self, items: set[Item]) -> None:
        """Forget queued mails whose records are handed back."""
        for flow in self.flows.values():
            flow.drop(items)

    def let_fall(self, item: Item) -> None:
        """An agent that is let go had the mail in hand, and had not begun to attempt it."""
        self._fallen.append(item)

    def take_all(self) -> list[Item]:
        """Take out every mail that waits, and those that agents let fall."""
        fallen, self._fallen = self._fallen, []
        return fallen + [item for flow in self.flows.values() for item in flow.overdue(math.inf)]

    def turn(self, now: float, egress: str) -> float:
        """Take a turn to send: 0.0 when it may go now, else the seconds until it is worth asking again."""
        return self.allowance.turn(now, self.service, egress)

    def wait(self, now: float, egress: str) -> float:
        """As :meth:`turn`, and takes none."""
        return self.allowance.wait(now, self.service, egress)

    def exits(self, now: float, egress: str) -> tuple[Exit, ...]:
        """Where the mail that took a turn leaves, once its attempt is written down."""
        return self.allowance.exits(now, egress)

    def begin(self, item: Item, now: float) -> None:
        """An attempt occupies a connection from ``now``."""
        self._running[item] = now

    def end(self, item: Item, now: float) -> None:
        """It no longer does."""
        took = max(now - self._running.pop(item, now), QUICKEST_S)
        self.service *= (took / self.service) ** 0.1

    def restore(self, state: LaneState, rules: Rules, now: float) -> None:
        """Take over what the owner before had learnt."""
        self.allowance.restore(state, rules.sites.penalty, now)
        self._triggered = rules.triggers.restore(state.triggered, now)
        self.follow_triggers(rules.triggers, now)

    def state(self, now: float, node: str, rules: str = "") -> LaneState:
        """The lane as it stands, for the next owner and for whoever looks; ``rules`` is their version."""
        rates = [
            self.allowance.rate(now, self.service, egress) for egress in {egress for egress, _ in self.flows} or ("",)
        ]
        rate = None if None in rates else min((each for each in rates if each), key=lambda each: each.interval)
        return msgspec.structs.replace(
            self.allowance.state(),
            triggered=tuple(
                (fired.trigger.id, fired.subject, fired.until)
                for fired in self._triggered.active.values()
                if fired.until > now
            ),
            queued=self.queued,
            connections=self.slots.taken,
            rate=str(rate) if rate else "unlimited",
            node=node,
            rules=rules,
        )


def forget(lanes: dict[str, Lane], now: float) -> None:
    """Drop lanes of which nothing would be lost."""
    for name in [name for name, lane in lanes.items() if lane.forgotten(now)]:
        del lanes[name]
