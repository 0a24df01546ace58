"""A sender agent: owns one connection and takes its lane's mails one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from sluice.deliver.item import Item
from sluice.deliver.lane import Flow, Lane
from sluice.deliver.paths import Path, Paths
from sluice.deliver.shared_limits import Gate
from sluice.deliver.step import Attempts, HandedBackError
from sluice.domain.conclusion import Way
from sluice.domain.smtp import Broken, Replied
from sluice.ports.clock import Clock
from sluice.ports.mailer import Connection, Mailer

log = structlog.get_logger(__name__)
LONGEST_NAP = 1.0
"""Seconds after which a sender that waits for its lane looks again: a pause may have been lifted."""


class Sender:
    """Serves one flow of a lane until there is nothing to do, or its connection is wanted elsewhere.

    ``gate`` knows the limits that other lanes share. ``attempting`` is told which mail is under way. ``wanted`` says
    that others wait for a connection.
    """

    def __init__(
        self,
        lane: Lane,
        flow: Flow,
        path: Path,
        *,
        mailer: Mailer,
        paths: Paths,
        attempts: Attempts,
        clock: Clock,
        gate: Gate,
        attempting: Callable[[Item, bool], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._lane = lane
        self._flow = flow
        self._path = path
        self._mailer = mailer
        self._paths = paths
        self._attempts = attempts
        self._clock = clock
        self._gate = gate
        self._attempting = attempting
        self._wanted = wanted
        self._connection: Connection | None = None
        self._used = 0
        self._may_dial = False

    async def run(self) -> None:
        """Serve. Returns when done; a failure to connect has been concluded then."""
        try:
            while await self._mail_waits():
                await self._hang_up_if_spent()
                pause = self._wait_for_leave()
                if pause > 0:
                    await self._clock.sleep(min(pause, LONGEST_NAP))
                    continue
                item = self._next()
                if item is not None and not await self._serve(item):
                    return
        finally:
            if self._connection is not None:
                await self._connection.quit()

    async def _mail_waits(self) -> bool:
        """Whether to go on: there is mail, or there is within the time that an idle connection is kept."""
        flow = self._flow
        if len(flow):
            return True
        if self._connection is None or self._wanted():
            return False
        flow.arrived.clear()
        flow.idle += 1
        try:
            # wait_for would swallow a cancellation that meets the arrival of a mail (CPython issue 86296).
            async with asyncio.timeout(self._lane.site.idle):
                await flow.arrived.wait()
        except TimeoutError:
            return bool(len(flow))
        finally:
            flow.idle -= 1
        return True

    async def _hang_up_if_spent(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if not connection.usable or self._used >= self._lane.site.mails_per_connection:
            self._connection = None
            await connection.quit()

    def _wait_for_leave(self) -> float:
        """Seconds to wait before a mail may be taken: for a new connection first, then for the lane's rate."""
        now = self._clock.now()
        if self._connection is None and not self._may_dial:
            pause = self._lane.allowance.may_connect(now)
            if pause > 0:
                return pause
            self._may_dial = True
        return self._lane.turn(now)

    def _next(self) -> Item | None:
        """The next mail that no limit holds back; the others wait apart, and nobody behind them."""
        while (item := self._flow.pop()) is not None:
            if self._gate.may_go(item, self._lane, self._path):
                return item
        return None

    async def _serve(self, item: Item) -> bool:
        """Attempt a mail; False when there is no connection to be had."""
        if item.mail.envelope.expires_at <= self._clock.now():
            self._attempts.expire(item)
            return True
        if self._connection is None:
            answer = await self._dial(item)
            if isinstance(answer, Replied | Broken):
                self._unreachable(item, answer)
                return False
            self._connection, self._used = answer, 0
        self._used += 1
        self._attempting(item, True)
        try:
            counted = await self._attempts.make(item, self._connection, self._lane, fresh=self._used == 1)
        except HandedBackError:
            log.info("attempt.handed_back", lane=self._lane.name)
            return True
        finally:
            self._attempting(item, False)
        if not counted:
            self._flow.unpop(item)
        return True

    async def _dial(self, item: Item) -> Connection | Replied | Broken:
        """A connection to the first host that greets us, or why none did."""
        self._may_dial = False
        hops = await self._paths.hops(self._path, self._lane.site, f"{item.mail.envelope.message_id}/{item.attempts}")
        if isinstance(hops, Broken):
            return hops
        last: Replied | Broken = Broken("connect", "refused")
        for hop in hops:
            answer = await self._mailer.connect(hop)
            if not isinstance(answer, Replied | Broken):
                self._lane.allowance.connected()
                return answer
            last = answer
        return last

    def _unreachable(self, item: Item, answer: Replied | Broken) -> None:
        now = self._clock.now()
        if not isinstance(answer, Broken) or answer.phase != "resolve":
            self._lane.allowance.connect_failed(now)
        item.waits = item.waits_at(now)
        item.attempts += 1
        self._attempts.conclude(item, answer, self._lane, Way(), now)
