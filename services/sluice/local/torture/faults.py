"""Doing to a running laboratory what a plan says."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import aiohttp

from sluice.adapters.embedded.ports import LOOPBACK
from sluice.domain.topics import topics
from sluice.local.parts import MAILBOX
from sluice.local.stack import LocalStack
from sluice.local.torture.plan import Fault, Plan
from sluice.local.torture.processes import Processes
from sluice.local.torture.proxy import FAIR, Proxy, Weather
from sluice.local.torture.records import Injected
from sluice.local.torture.sink import Mode
from sluice.runtime import wiring

LATE, SLICES = 0.15, 48
"""Seconds that packets are late, and bytes that they are cut into."""
GROWTH = 2
TELLING = aiohttp.ClientTimeout(total=5)
ABSENT = "it was not running"
Say = Callable[[str], None]


class Faults:
    """Injects faults. ``done`` is what was done, in order of its beginning."""

    def __init__(self, stack: LocalStack, processes: Processes, proxies: dict[str, Proxy], say: Say) -> None:
        self._stack = stack
        self._processes = processes
        self._proxies = proxies
        self._say = say
        self._lanes = stack.settings.kafka_lane_partitions
        self.done: list[Injected] = []
        self.under_way: list[Fault] = []

    async def follow(self, plan: Plan) -> None:
        """Do everything at its time, counted from now; returns when the last fault is over."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in plan.faults:
                group.create_task(self._at(fault, began))
        self.done.sort(key=lambda each: each.at)

    async def _at(self, fault: Fault, began: float) -> None:
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        lasting = f" for {fault.lasts:g} s" if fault.lasts else ""
        self._say(f"  {time.monotonic() - began:5.1f} s  {fault.kind} {fault.target}{lasting}")
        self.under_way.append(fault)
        at = time.time()
        note = await self._do(fault)
        self.under_way.remove(fault)
        self.done.append(Injected(fault, at, time.time(), note))

    async def _do(self, fault: Fault) -> str:
        doing: dict[str, Callable[[Fault], Awaitable[str]]] = {
            "kill": self._signal,
            "term": self._signal,
            "stop": self._suspend,
            "leave": self._leave,
            "join": self._join,
            "grow": self._grow,
            "broker": self._outage,
            "clickhouse": self._outage,
            "sink": self._outage,
            "hang": self._misbehave,
            "drop": self._misbehave,
            "busy": self._misbehave,
            "latency": self._weather,
            "slice": self._weather,
            "hole": self._weather,
            "reset": self._reset,
        }
        return await doing[fault.kind](fault)

    async def _signal(self, fault: Fault) -> str:
        number = signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM
        return "" if self._processes.signal(fault.target, number) else ABSENT

    async def _suspend(self, fault: Fault) -> str:
        if not self._processes.suspend(fault.target):
            return ABSENT
        await asyncio.sleep(fault.lasts)
        self._processes.resume(fault.target)
        return ""

    async def _leave(self, fault: Fault) -> str:
        there = await self._processes.take_down(fault.target)
        await asyncio.sleep(fault.lasts)
        self._processes.bring_back(fault.target)
        return "" if there else ABSENT

    async def _join(self, fault: Fault) -> str:
        self._processes.bring_back(fault.target)
        await asyncio.sleep(fault.lasts)
        await self._processes.take_down(fault.target)
        return ""

    async def _grow(self, fault: Fault) -> str:
        self._lanes += GROWTH
        layout = wiring.layout(self._stack.settings.model_copy(update={"kafka_lane_partitions": self._lanes}))
        # The broker may be away at this moment: growth can wait.
        for _ in range(30):
            try:
                await asyncio.to_thread(wiring.topic_admin(self._stack.settings).apply, topics(layout))
            except Exception as error:
                refused = f"{type(error).__name__}: {error}"
                await asyncio.sleep(1.0)
            else:
                return f"to {self._lanes} partitions"
        return refused

    async def _outage(self, fault: Fault) -> str:
        name = MAILBOX if fault.target == "sink" else fault.target
        there = await self._processes.take_down(name, kill=True)
        await asyncio.sleep(fault.lasts)
        self._processes.bring_back(name)
        return "" if there else ABSENT

    async def _misbehave(self, fault: Fault) -> str:
        mode: Mode = "hang" if fault.kind == "hang" else "drop" if fault.kind == "drop" else "busy"
        if not await self._tell(mode):
            return ABSENT
        await asyncio.sleep(fault.lasts)
        await self._tell("normal")
        return ""

    async def _tell(self, mode: Mode) -> bool:
        url = f"http://{LOOPBACK}:{self._stack.ports['mailbox-control']}/mode"
        try:
            async with aiohttp.ClientSession(timeout=TELLING) as session, session.put(url, data=mode) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            # It is down; it comes back with good manners.
            return False

    async def _weather(self, fault: Fault) -> str:
        proxy = self._proxies[fault.target]
        match fault.kind:
            case "latency":
                proxy.weather = Weather(latency=LATE)
            case "slice":
                proxy.weather = Weather(slices=SLICES)
            case _:
                proxy.weather = Weather(hole=True)
        await asyncio.sleep(fault.lasts)
        proxy.weather = FAIR
        return ""

    async def _reset(self, fault: Fault) -> str:
        return f"{self._proxies[fault.target].reset()} connections"
