"""A sender agent: owns one connection and takes its lane's mails one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sluice.deliver.desk import Desk
from sluice.deliver.flow import Flow
from sluice.deliver.item import Item
from sluice.deliver.lane import Lane
from sluice.deliver.paths import Paths
from sluice.deliver.sessions import Sessions
from sluice.deliver.shared_limits import Gate
from sluice.deliver.slots import Seat
from sluice.deliver.step import Attempts, HandedBackError
from sluice.domain.conclusion import Way
from sluice.domain.conversation import Transcript
from sluice.domain.smtp import Broken, Replied
from sluice.ports.bus import NotStored
from sluice.ports.clock import Clock
from sluice.ports.mailer import Connection, Hop, Mailer

log = structlog.get_logger(__name__)
LONGEST_NAP = 1.0
"""Seconds after which a sender that waits for its lane looks again: a pause may have been lifted."""


class Sender:
    """Serves one flow of a lane until there is nothing to do, or its connection is wanted elsewhere.

    ``gate`` knows the limits that other lanes share. ``attempting`` is told which mail is under way. ``desk`` says when
    others should have the connection. ``rehome`` has a flow's mails leave from elsewhere, and tells whether it did.
    ``dialling`` counts the agents that look for a connection.
    """

    def __init__(
        self,
        lane: Lane,
        seat: Seat,
        *,
        mailer: Mailer,
        paths: Paths,
        attempts: Attempts,
        clock: Clock,
        gate: Gate,
        attempting: Callable[[Item, bool], None],
        desk: Desk,
        rehome: Callable[[Flow], bool],
        dialling: Callable[[int], None],
    ) -> None:
        self._lane = lane
        self._seat = seat
        self._flow = seat.flow
        self._path = seat.flow.path
        self._mailer = mailer
        self._paths = paths
        self._sessions = Sessions(paths, seat.flow.path)
        self._attempts = attempts
        self._clock = clock
        self._gate = gate
        self._attempting = attempting
        self._desk = desk
        self._leaving_from_elsewhere = rehome
        self._dialling = dialling
        self._used = 0
        self._tls = self._lane.site.tls
        self._greeting: Transcript | None = None
        """What was said to open the connection, until its first mail."""
        self._asked: Hop | None = None
        """The server that was tried last."""

    async def run(self) -> None:
        """Serve. Returns when done; a failure to connect has been concluded then."""
        try:
            while await self._mail_waits() and not self._desk.must_leave(self._seat):
                if self._leaving_from_elsewhere(self._flow):
                    return
                await self._hang_up_if_spent()
                pause = self._wait_to_connect()
                if not pause:
                    # To open a connection takes time. Turns taken before it would be used together, once several stand.
                    ask = self._lane.wait if self._seat.connection is None else self._lane.turn
                    pause = ask(self._clock.now(), self._flow.egress.name)
                    if pause and not self._desk.waits_for_rate(self._seat):
                        if self._seat.connection is None or not await self._rest():
                            return
                        continue
                if pause:
                    await self._clock.sleep(min(pause, LONGEST_NAP))
                    continue
                if not await self._went_on():
                    return
        finally:
            if self._seat.connection is not None:
                await self._seat.connection.quit()

    async def _went_on(self) -> bool:
        """Open a connection, or attempt a mail over the one that is open; False to end."""
        connection = self._seat.connection
        if connection is None:
            return await self._connected()
        item = self._next()
        return item is None or await self._guarded(item, self._serve(item, connection))

    async def _mail_waits(self) -> bool:
        """Whether to go on: there is mail to take, or there is within the time that an idle connection is kept."""
        if self._mail_for_us():
            return True
        return self._seat.connection is not None and await self._rest() and self._mail_for_us()

    async def _rest(self) -> bool:
        """Keep the connection until there is something to do; False when it is to be closed."""
        self._desk.rests(self._seat)
        try:
            await self._seat.call.wait()
        finally:
            self._desk.rises(self._seat)
        return not self._seat.leaving

    def _mail_for_us(self) -> bool:
        rank = self._flow.rank
        return rank is not None and (rank == 0 or self._desk.may_serve_all(self._seat))

    async def _hang_up_if_spent(self) -> None:
        connection = self._seat.connection
        if connection is None:
            return
        site = self._lane.site
        if not connection.usable or self._used >= site.mails_per_connection or self._tls != site.tls:
            self._seat.connection = None
            await connection.quit()

    def _wait_to_connect(self) -> float:
        """Seconds to wait before a connection may be opened, if one is needed."""
        return 0.0 if self._seat.connection else self._lane.allowance.wait_to_connect(self._clock.now())

    def _next(self) -> Item | None:
        """The next mail that no limit holds back; the others wait apart, and nobody behind them."""
        try:
            while (item := self._pop()) is not None:
                if self._gate.may_go(item, self._lane, self._path):
                    return item
            return None
        finally:
            self._desk.took(self._seat)

    def _pop(self) -> Item | None:
        serves_all = any(self._flow.queues[1:]) and self._desk.may_serve_all(self._seat)
        return self._flow.pop(urgent_only=not serves_all)

    async def _guarded(self, item: Item, step: Awaitable[bool]) -> bool:
        """What the step says; a mail on which it fails is buried, or nothing behind it would ever be committed."""
        try:
            return await step
        except NotStored:
            raise
        except Exception as error:
            self._attempts.broke(item, error)
            return False

    async def _connected(self) -> bool:
        """Open a connection for the next mail, which keeps its place; False when there is none to be had."""
        item = self._pop()
        self._desk.took(self._seat)
        return item is None or await self._guarded(item, self._connect(item))

    async def _connect(self, item: Item) -> bool:
        if self._expired(item):
            return True
        talk = self._greeting = Transcript(self._clock.now)
        self._dialling(1)
        try:
            answer = await self._dial(item, talk)
        except asyncio.CancelledError:
            # Let go because the lane leaves: neither the lane's queue nor an attempt has the mail.
            self._lane.let_fall(item)
            raise
        finally:
            self._dialling(-1)
        if isinstance(answer, Replied | Broken):
            self._unreachable(item, answer, talk)
            return False
        self._seat.connection, self._used = answer, 0
        if not item.handed_back:
            self._flow.unpop(item)
        return True

    def _expired(self, item: Item) -> bool:
        """Whether its time is over, which is then written down."""
        if item.mail.envelope.expires_at > self._clock.now():
            return False
        self._attempts.expire(item)
        return True

    async def _serve(self, item: Item, connection: Connection) -> bool:
        """Attempt a mail. True, whatever became of it: the agent goes on."""
        if self._expired(item):
            return True
        self._used += 1
        self._attempting(item, True)
        talk, self._greeting = self._greeting or Transcript(self._clock.now, self._used), None
        try:
            counted = await self._attempts.make(
                item,
                connection,
                self._lane,
                talk,
                fresh=self._used == 1,
                sessions=self._sessions.of_attempt(item, connection),
                exits=(*self._lane.exits(self._clock.now(), self._flow.egress.name), *self._gate.exits(item)),
            )
        except HandedBackError:
            log.info("attempt.handed_back", lane=self._lane.name)
            return True
        finally:
            self._attempting(item, False)
        if not counted:
            self._flow.unpop(item)
        return True

    async def _dial(self, item: Item, talk: Transcript) -> Connection | Replied | Broken:
        """A connection to the first host that greets us, or why none did."""
        self._lane.allowance.connects(self._clock.now())
        self._tls = self._lane.site.tls
        self._asked = None
        seed = f"{item.mail.envelope.message_id}/{item.attempts}"
        hops = await self._paths.hops(self._path, self._lane.site, self._flow.egress, seed)
        if isinstance(hops, Broken):
            self._sessions.refused(item, None, hops)
            return hops
        last: Replied | Broken = Broken("connect", "refused")
        for hop in hops:
            self._asked = hop
            answer = await self._mailer.connect(hop, talk)
            if not isinstance(answer, Replied | Broken):
                self._lane.allowance.connected(self._flow.egress.name)
                self._desk.greeted(self._flow)
                self._sessions.opened(hop)
                return answer
            self._sessions.refused(item, hop, answer)
            last = answer
        return last

    def _unreachable(self, item: Item, answer: Replied | Broken, talk: Transcript) -> None:
        now = self._clock.now()
        if not isinstance(answer, Broken) or answer.phase != "resolve":
            self._lane.allowance.connect_failed(now, self._flow.egress.name)
            self._flow.greeted = False
        began = talk.parts[0].began if talk.parts else now
        item.attempted(began)
        item.attempts += 1
        host, address = (self._asked.host, self._asked.address) if self._asked else (None, None)
        sessions = self._sessions.of_attempt(item)
        way = Way(host, address, egress=self._flow.egress.name, sessions=sessions)
        self._attempts.conclude(item, answer, self._lane, way, began, talk)
