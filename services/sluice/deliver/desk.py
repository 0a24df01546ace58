"""Who gets a connection: within each lane's share and the worker's budget, by priority, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sluice.deliver.flow import Flow
from sluice.deliver.slots import Seat, Slots
from sluice.ports.clock import Clock

TURN_S = 3.0
"""Seconds for which an agent keeps its connection, whoever else waits for one: less would be spent on greetings."""

PROBES = 2
"""Agents of a flow that call while no host has answered: a black hole would hold all that the site may have, each for a
minute, out of the budget that the other sites live on."""
ASK_S = 0.1
"""Seconds between two questions of an agent whether it may stay."""


class Desk:
    """Hands out seats. ``start`` is called to start a sender agent with one; it tells back what it does with it.

    A flow with mail that nobody is on the way to take gets a seat, or wakes an agent that rests, or stands in the line
    of the slots that are used up; whoever rests there gives way. An agent that had its turn leaves when it
    is somebody else's by the priorities' weights, and its flow waits again if it has more.
    """

    def __init__(self, clock: Clock, start: Callable[[Seat], None]) -> None:
        self._clock = clock
        self._start = start
        self._closed = False

    def close(self) -> None:
        """Call nobody any more."""
        self._closed = True

    def staff(self, flow: Flow) -> None:
        """See that the flow's mails are taken."""
        while not self._closed and self._one_more(flow):
            pass

    def _one_more(self, flow: Flow) -> bool:
        """Call one agent, if one is needed and may come."""
        rank = flow.unattended
        if rank is None or flow.held_back:
            return False
        slots = flow.slots
        resting = _resting(flow, slots)
        if resting is None and not flow.greeted and flow.seats >= PROBES:
            return False
        for each in slots:
            if resting is not None and (rank == 0 or each.general_room):
                continue
            if resting is None and each.room(rank):
                continue
            each.line.join(flow)
            self._let_one_go(each)
            return False
        flow.stamp = None
        if resting is not None:
            self._call(resting)
            return True
        seat = Seat(flow, self._clock.now())
        flow.seats += 1
        for each in slots:
            each.taken += 1
        if rank > 0:
            self._generalise(seat)
        self._attend(seat)
        self._start(seat)
        return True

    def greeted(self, flow: Flow) -> None:
        """A host has answered: others of the flow may call too."""
        if not flow.greeted:
            flow.greeted = True
            self.staff(flow)

    def may_serve_all(self, seat: Seat) -> bool:
        """Whether the agent may take mail below the highest priority: it then counts among those that do."""
        if not seat.general and all(each.general_room for each in seat.slots):
            self._generalise(seat)
        return seat.general

    def took(self, seat: Seat) -> None:
        """The agent has looked for a mail, or does not."""
        if seat.attending:
            seat.attending = False
            seat.flow.attending -= 1
        if seat.held_back:
            seat.held_back = False
            seat.flow.held_back -= 1
            if not self._closed:
                # The next one to wait, should this one be busy for longer than the rate needs.
                self._one_more(seat.flow)

    def waits_for_rate(self, seat: Seat) -> bool:
        """The agent has mail that the rate does not let go yet. False when one that waits for it already is enough."""
        if not seat.held_back:
            if seat.flow.held_back:
                return False
            seat.held_back = True
            seat.flow.held_back += 1
        return True

    def must_leave(self, seat: Seat) -> bool:
        """Whether the agent has to give its connection up, though it has mail to send."""
        now = self._clock.now()
        if now < seat.asks_at:
            return seat.leaving
        seat.asks_at = now + ASK_S
        if any(each.overfull for each in seat.slots):
            return self._leaves(seat)
        if now - seat.since < TURN_S:
            return False
        rank = seat.flow.rank or 0
        for each in seat.slots:
            helps = each.full or seat.general
            if helps and each.leaving < each.line.go_before(seat.flow, rank):
                # It has waited for more connections, perhaps for longest; after its turn it stands behind the others.
                seat.flow.stamp = None
                return self._leaves(seat)
        seat.since = now
        return False

    def rests(self, seat: Seat) -> None:
        """The agent waits for mail with its connection open. ``seat.call`` is set when there is some, or it must go."""
        seat.call.clear()
        seat.since = self._clock.now()
        self.took(seat)
        for each in seat.slots:
            each.idle[seat] = None
        self._give_back_general(seat)
        self._fill(seat.slots)
        self.staff(seat.flow)
        self._make_room(seat.slots)

    def rises(self, seat: Seat) -> None:
        """The agent does not wait any more."""
        for each in seat.slots:
            each.idle.pop(seat, None)
        seat.since = self._clock.now()

    def dismiss(self, slots: Slots, before: float) -> None:
        """Have those connections of ``slots`` closed that have been idle since ``before`` or longer.

        And give those back that the site has closed meanwhile, or that are more than there may be by now.
        """
        for seat in list(slots.idle):
            ended = seat.connection is not None and not seat.connection.usable
            if ended or seat.since <= before or slots.overfull:
                self._leaves(seat)
                seat.call.set()

    def left(self, seat: Seat) -> None:
        """The agent has ended."""
        self.took(seat)
        self.rises(seat)
        seat.flow.seats -= 1
        for each in seat.slots:
            each.taken -= 1
            each.leaving -= seat.leaving
        self._give_back_general(seat)
        self._fill(seat.slots)
        self.staff(seat.flow)
        self._make_room(seat.slots)

    def _fill(self, slots: tuple[Slots, ...]) -> None:
        """Call those who waited for one of ``slots``, as far as there is room now."""
        for each in slots:
            while not self._closed and (flow := each.line.next(partial(_room_for, each))) is not None:
                # One for each in turn, however many a flow could use.
                if self._one_more(flow) and flow.unattended is not None:
                    each.line.join(flow)

    def _make_room(self, slots: tuple[Slots, ...]) -> None:
        for each in slots:
            self._let_one_go(each)

    def _let_one_go(self, slots: Slots) -> None:
        """Make room: the connection that has been idle for longest is closed."""
        if not slots.full or slots.leaving >= len(slots.line):
            return
        seat = next((seat for seat in slots.idle if not seat.leaving), None)
        if seat is not None:
            self._leaves(seat)
            seat.call.set()

    def _leaves(self, seat: Seat) -> bool:
        if not seat.leaving:
            seat.leaving = True
            for each in seat.slots:
                each.leaving += 1
        return True

    def _call(self, seat: Seat) -> None:
        for each in seat.slots:
            each.idle.pop(seat, None)
        self._attend(seat)
        seat.call.set()

    def _attend(self, seat: Seat) -> None:
        seat.attending = True
        seat.flow.attending += 1

    def _generalise(self, seat: Seat) -> None:
        seat.general = True
        for each in seat.slots:
            each.general += 1

    def _give_back_general(self, seat: Seat) -> None:
        if seat.general:
            seat.general = False
            for each in seat.slots:
                each.general -= 1


def _resting(flow: Flow, slots: tuple[Slots, ...]) -> Seat | None:
    """Who has an open connection and waits for the flow's mail; the last to have come, so that the others may close."""
    # All slots of a flow know its seats, the first the fewest others.
    return next((seat for seat in reversed(slots[0].idle) if seat.flow is flow and not seat.leaving), None)


def _room_for(slots: Slots, rank: int, flow: Flow) -> bool:
    return slots.room(rank) or (slots.general_room and _resting(flow, flow.slots) is not None)
