"""The laboratory's processes come back when they are killed, stay away when taken down, and tell who died by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sluice.local.torture.processes import Processes
from sluice.runtime.child import Child, ChildFailed

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


async def until(check: Callable[[], object], patience: float = 20.0) -> None:
    async with asyncio.timeout(patience):
        while not check():  # noqa: ASYNC110  what is looked at has no event
            await asyncio.sleep(0.05)


class Room:
    """Two processes that sleep."""

    def __init__(self, logs: Path) -> None:
        self.processes = Processes([Child(name="a", command=SLEEP), Child(name="b", command=SLEEP)], logs)

    def pid(self, name: str) -> int | None:
        return next((child.pid for child in self.processes.status() if child.name == name), None)

    def state(self, name: str) -> str:
        """As the kernel tells it: S sleeping, T stopped."""
        return Path(f"/proc/{self.pid(name)}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    await made.processes.up("a", "b")
    yield made
    await made.processes.close(("a",))


async def test_what_is_killed_comes_back(room: Room) -> None:
    before = room.pid("a")
    assert room.processes.signal("a", signal.SIGKILL)
    await until(lambda: room.pid("a") not in (None, before))
    assert room.processes.own_deaths() == {}


async def test_what_dies_by_itself_is_told(room: Room) -> None:
    before = room.pid("b")
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await until(lambda: room.pid("b") not in (None, before))
    assert room.processes.own_deaths() == {"b": 1}


async def test_what_is_taken_down_stays_away_until_it_is_brought_back(room: Room) -> None:
    assert await room.processes.take_down("a", kill=True)
    assert not await room.processes.take_down("a")
    assert not room.processes.signal("a", signal.SIGKILL)
    await asyncio.sleep(1.0)
    assert room.pid("a") is None
    room.processes.bring_back("a")
    await until(lambda: room.pid("a"))
    assert room.processes.own_deaths() == {}


async def test_what_is_suspended_stands_still_and_can_be_taken_down(room: Room) -> None:
    assert room.processes.suspend("a")
    await until(lambda: room.state("a") == "T")
    room.processes.resume("a")
    await until(lambda: room.state("a") == "S")
    room.processes.suspend("a")
    assert await room.processes.take_down("a")


async def test_what_cannot_come_up_at_first_fails_the_run_and_is_tried_again_later(tmp_path: Path) -> None:
    wanted = tmp_path / "there"
    needs = f"import pathlib, sys, time; pathlib.Path({str(wanted)!r}).exists() or sys.exit(3); time.sleep(600)"
    child = Child(name="c", command=[sys.executable, "-c", needs], ready=wanted.exists)
    processes = Processes([child], tmp_path)
    with pytest.raises(ChildFailed, match="status 3"):
        await processes.up("c")
    await processes.take_down("c")
    processes.bring_back("c")
    await asyncio.sleep(0.5)
    wanted.touch()
    await until(lambda: any(child.state == "ready" for child in processes.status()))
    await processes.close(())
