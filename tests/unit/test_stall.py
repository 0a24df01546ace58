"""The watchdogs: reading that stands, an event loop that stands, a service that says so, a child that is replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import structlog
from tests.support.deliver import Worker

from sluice.adapters.embedded.ports import free_port
from sluice.deliver.agent import longest_in_hand
from sluice.domain.errors import SluiceError
from sluice.domain.smtp import Result
from sluice.ports.health import Health
from sluice.ports.mailer import Transaction
from sluice.runtime import lifecycle
from sluice.runtime.child import Alive, Child, Restart, Url
from sluice.runtime.config import Settings
from sluice.runtime.stall import Place, ReadingWatch, Stalled, overdue
from sluice.runtime.supervisor import Supervisor

HERE: Place = ("mail.ready.normal", 3)
LIMIT = 120.0


class Partition:
    """One that a consumer should read: its next offset, and whether the log holds a record there."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reading: dict[Place, int] = {HERE: 7}
        self.has_record = True
        self.away = False
        self.watch = ReadingWatch(lambda: self.reading, self.waiting, LIMIT, now=lambda: self.now)

    def waiting(self, places: Mapping[Place, int]) -> set[Place]:
        if self.away:
            raise SluiceError("Kafka does not answer")
        return set(places) if self.has_record else set()

    async def pass_time(self, seconds: float, then: Callable[[], None] = lambda: None) -> None:
        """Looks come an eighth of the limit apart."""
        until = self.now + seconds
        while self.now < until:
            self.now += LIMIT / 8
            then()
            await self.watch.look()


async def test_records_that_nobody_takes_are_told_within_the_limit() -> None:
    partition = Partition()
    await partition.pass_time(LIMIT * 0.5)
    assert partition.watch.reason == ""
    await partition.pass_time(LIMIT * 0.5)
    assert "mail.ready.normal:3" in partition.watch.reason


async def test_reading_that_moves_is_not_stalled_however_far_behind() -> None:
    partition = Partition()

    def read_on() -> None:
        partition.reading[HERE] += 1

    await partition.pass_time(5 * LIMIT, read_on)
    assert partition.watch.reason == ""


async def test_the_log_is_asked_of_partitions_that_stand_and_of_no_others() -> None:
    """Asking is a fetch: where much is read, it would be one more reader."""
    partition = Partition()
    asked: list[Mapping[Place, int]] = []
    partition.watch._waiting = lambda places: asked.append(dict(places)) or set()  # type: ignore[func-returns-value]
    other = ("mail.ready.bulk", 1)

    def read_on() -> None:
        partition.reading[other] = partition.reading.get(other, 0) + 1

    await partition.pass_time(LIMIT, read_on)
    assert asked
    assert all(set(places) == {HERE} for places in asked)


async def test_a_partition_without_records_or_held_back_is_not_stalled() -> None:
    partition = Partition()
    partition.has_record = False
    await partition.pass_time(2 * LIMIT)
    assert partition.watch.reason == ""
    partition.has_record, partition.reading = True, {}
    await partition.pass_time(2 * LIMIT)
    assert partition.watch.reason == ""


async def test_while_the_log_cannot_be_asked_nobody_is_blamed() -> None:
    """A worker that is started again cannot read either."""
    partition = Partition()
    await partition.pass_time(LIMIT / 2)
    partition.away = True
    await partition.pass_time(5 * LIMIT)
    assert partition.watch.reason == ""
    partition.away = False
    await partition.pass_time(LIMIT / 2)
    assert partition.watch.reason == ""
    await partition.pass_time(LIMIT)
    assert partition.watch.reason


async def test_a_partition_that_is_read_again_is_well_again() -> None:
    partition = Partition()
    await partition.pass_time(LIMIT)
    assert partition.watch.reason
    partition.reading[HERE] = 8
    await partition.watch.look()
    assert partition.watch.reason == ""


async def test_a_wedged_sender_is_told_although_the_mails_beside_it_are_delivered() -> None:
    """Its mail stands at the head: nothing behind it is ever committed."""
    never = asyncio.Event()

    async def wedged(_: Transaction) -> Result:
        await never.wait()
        raise AssertionError

    worker = Worker()
    worker.mailer.answer("stuck@site.example", wedged)
    longest = longest_in_hand(Settings())
    await worker.take(worker.record(worker.envelope("stuck")))
    for number in range(3):
        await worker.clock.advance(longest / 4)
        await worker.take(worker.record(worker.envelope(f"m{number}", domain="other.example")))
        assert overdue(worker.handler.oldest(), longest, "a mail") == ""
    assert worker.done == [1, 2, 3]
    await worker.clock.advance(longest / 2)
    assert "a mail has been under way for" in overdue(worker.handler.oldest(), longest, "a mail")
    await worker.close()


def test_one_old_piece_of_work_is_told_although_others_finish() -> None:
    assert "300 s" in overdue(300.0, 200.0, "a mail")
    assert overdue(100.0, 200.0, "a mail") == ""


STUCK = """
import asyncio, time
from sluice.adapters.telemetry.logs import set_up_logs
from sluice.runtime.stall import LoopWatch

def wait_for_a_lock_that_never_comes():
    time.sleep(600)

async def main():
    watch = LoopWatch(1.0)
    watch.start()
    await asyncio.sleep(0.5)
    wait_for_a_lock_that_never_comes()

set_up_logs("deliver", "n1")
asyncio.run(main())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_process_whose_event_loop_stands_says_where_and_ends() -> None:
    done = run(STUCK)
    assert done.returncode == 1
    assert "loop.stalled" in done.stderr
    assert "wait_for_a_lock_that_never_comes" in done.stderr


def test_a_process_that_does_not_come_to_its_end_is_ended() -> None:
    code = STUCK.replace("LoopWatch(1.0)", "LoopWatch(500.0)").replace(
        "await asyncio.sleep(0.5)", "watch.end_within(1.0); await asyncio.sleep(600)"
    )
    done = run(code)
    assert done.returncode == 1
    assert "service.not_ended" in done.stderr


def test_a_loop_that_moves_is_left_alone() -> None:
    done = run(STUCK.replace("wait_for_a_lock_that_never_comes()\n\nset_up", "await asyncio.sleep(2.5)\n\nset_up"))
    assert (done.returncode, done.stderr) == (0, "")


class Wedged:
    """A service that says it does not move."""

    def __init__(self) -> None:
        self.health = Health(False, True, "3 records unfinished and none finished for 130 s")

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def failed(self) -> BaseException:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_stalled_service_says_why_and_ends_for_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "STALL_GRACE_S", 0.5)
    with structlog.testing.capture_logs() as lines:
        why = await lifecycle._failed_or_stalled(Wedged())
    assert isinstance(why, Stalled)
    assert [line["reason"] for line in lines if line["event"] == "service.stalled"] == [Wedged().health.reason]


async def test_a_service_that_recovers_in_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "STALL_GRACE_S", 60.0)
    service = Wedged()
    waiting = asyncio.create_task(lifecycle._failed_or_stalled(service))
    await asyncio.sleep(1.5)
    service.health = Health(True, True)
    await asyncio.sleep(1.5)
    assert not waiting.done()
    waiting.cancel()


def webbed(port: int, mark: Path) -> list[str]:
    """A child whose /healthz answers 200 until ``mark`` is there; a second start removes it."""
    code = f"""
    import http.server, pathlib
    mark = pathlib.Path({str(mark)!r})
    mark.unlink(missing_ok=True)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503 if mark.exists() else 200)
            self.end_headers()
        def log_message(self, *_):
            pass
    http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
    """
    return [sys.executable, "-S", "-c", textwrap.dedent(code)]


async def restarted(tmp_path: Path, hurt: Callable[[int, Path], None]) -> str | None:
    """Start a child, hurt it, and wait until the supervisor has replaced it; returns how the first one ended."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/healthz"
    child = Child(
        name="worker",
        command=webbed(port, tmp_path / "stalled"),
        ready=Url(url),
        alive=Alive(check=Url(url), every=0.2, misses=3),
        restart=Restart(initial=0.05),
        stop_timeout=1,
    )
    async with Supervisor([child], data=tmp_path) as supervisor:
        (first,) = supervisor.status()
        assert first.pid is not None
        await asyncio.sleep(1.5)
        assert supervisor.status()[0].pid == first.pid, "it was well, and was replaced"
        hurt(first.pid, tmp_path / "stalled")
        async with asyncio.timeout(40):
            while supervisor.status()[0].pid == first.pid or supervisor.status()[0].state != "ready":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return supervisor.status()[0].last_exit


async def test_a_child_that_says_it_is_stalled_is_ended_and_started_again(tmp_path: Path) -> None:
    assert await restarted(tmp_path, lambda _, mark: mark.touch()) == "signal SIGTERM"


async def test_a_child_that_does_not_answer_any_more_is_killed_and_started_again(tmp_path: Path) -> None:
    assert await restarted(tmp_path, lambda pid, _: os.kill(pid, signal.SIGSTOP)) == "signal SIGKILL"
