"""The supervisor, with small real processes."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.runtime.child import Child, ChildFailed, ChildStatus, Port, Ready, Restart, Url
from sluice.runtime.childlog import RotatedFile, tail
from sluice.runtime.supervisor import FolderInUse, Supervisor

AT_ONCE = Restart(initial=0.01, longest=0.02, quick_deaths=3)
SLEEP = "import time; time.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(code)]


def child(
    name: str, code: str = SLEEP, *, ready: Ready = None, after: tuple[str, ...] = (), restart: Restart = AT_ONCE
) -> Child:
    return Child(
        name=name, command=python(code), ready=ready, after=after, restart=restart, ready_timeout=10, stop_timeout=5
    )


def speaking(name: str, journal: Path) -> Child:
    """A child that writes when it starts, is ready when it has, and writes when it is asked to stop."""
    code = f"""
    import signal, sys, time
    def say(what):
        with open({str(journal)!r}, "a") as file:
            file.write(what + " {name}\\n")
    def end(*_):
        time.sleep(0.05)
        say("stop")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    time.sleep(0.05)
    say("start")
    time.sleep(600)
    """
    return child(name, code, ready=lambda: f"start {name}\n" in journal.read_text())


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- other processes raise no event
            await asyncio.sleep(0.01)


def only(supervisor: Supervisor) -> ChildStatus:
    [status] = supervisor.status()
    return status


async def test_children_start_in_the_order_they_need_and_stop_in_reverse(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    kafka, worker, status = (speaking(name, journal) for name in ("kafka", "worker", "status"))
    chain = [
        Child(name="status", command=status.command, ready=status.ready, after=("worker",)),
        Child(name="worker", command=worker.command, ready=worker.ready, after=("kafka",)),
        kafka,
    ]
    async with Supervisor(chain, data=tmp_path) as supervisor:
        assert {child.state for child in supervisor.status()} == {"ready"}
    assert [child.state for child in supervisor.status()] == ["stopped"] * 3
    assert [child.last_exit for child in supervisor.status()] == ["status 0"] * 3
    started, stopped = ["kafka", "worker", "status"], ["status", "worker", "kafka"]
    assert journal.read_text().split("\n")[:-1] == [f"start {n}" for n in started] + [f"stop {n}" for n in stopped]


async def test_a_child_that_dies_at_its_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = [child("good"), child("bad", "print('the port is taken'); raise SystemExit(3)", ready=lambda: False)]
    supervisor = Supervisor(children, data=tmp_path)
    with pytest.raises(
        ChildFailed, match=r"(?s)bad ended with status 3 before .*bad\.log.*the port is taken"
    ) as raised:
        await supervisor.start()
    assert raised.value.name == "bad"
    assert [(child.state, child.pid) for child in supervisor.status()] == [("stopped", None), ("failed", None)]


async def test_a_child_that_is_never_ready_is_reported_and_ended(tmp_path: Path) -> None:
    slow = Child(name="slow", command=python(SLEEP), ready=lambda: False, ready_timeout=0.3)
    supervisor = Supervisor([slow], data=tmp_path)
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: bool(supervisor.status()) and only(supervisor).pid is not None)
    pid = only(supervisor).pid
    with pytest.raises(ChildFailed, match=r"(?s)slow was not ready after 0\.3 s.*it printed nothing"):
        await starting
    assert pid is not None
    assert gone(pid)


async def test_a_command_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    supervisor = Supervisor([Child(name="x", command=["/no/such/program"], ready=lambda: False)], data=tmp_path)
    with pytest.raises(ChildFailed, match=r"(?s)status 127.*cannot run /no/such/program: No such file"):
        await supervisor.start()


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    async with Supervisor([child("worker")], data=tmp_path) as supervisor:
        first = only(supervisor).pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: only(supervisor).state == "ready" and only(supervisor).pid != first)
        assert only(supervisor).restarts == 1
        assert only(supervisor).last_exit == "signal SIGKILL"


async def test_a_child_that_keeps_dying_is_given_up_loudly_and_all_is_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor([child("good"), child("bad", "print('broken'); raise SystemExit(9)")], data=tmp_path)
    with pytest.raises(ChildFailed, match=r"(?s)bad ended with status 9.*3 times in a row.*broken"):
        await supervisor.run()
    good, bad = supervisor.status()
    assert (good.state, bad.state, bad.restarts) == ("stopped", "failed", 2)


async def test_a_child_that_ran_steadily_is_never_given_up(tmp_path: Path) -> None:
    steady = Restart(initial=0.01, steady=0.0, quick_deaths=2)
    async with Supervisor([child("worker", "pass", restart=steady)], data=tmp_path) as supervisor:
        await until(lambda: only(supervisor).restarts >= 4)


@given(deaths=st.integers(1, 10_000))
def test_the_pause_before_a_restart_grows_to_its_longest(deaths: int) -> None:
    policy = Restart(initial=0.5, longest=30)
    assert policy.delay(1) == 0.5
    assert policy.delay(2) == 1.0
    assert policy.delay(deaths) <= policy.delay(deaths + 1) <= 30


async def test_a_child_that_ignores_sigterm_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    inner = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    print(inner.pid, flush=True)
    time.sleep(600)
    """
    log = tmp_path / "logs" / "stubborn.log"
    stubborn = Child(
        name="stubborn", command=python(code), ready=lambda: log.read_text().endswith("\n"), stop_timeout=0.2
    )
    async with Supervisor([stubborn], data=tmp_path) as supervisor:
        pid = only(supervisor).pid
        inner = int(log.read_text())
        assert pid is not None
        assert not gone(inner)
    assert gone(pid)
    await until(lambda: gone(inner))
    assert only(supervisor).last_exit == "signal SIGKILL"


async def test_ready_is_a_port_an_url_or_a_coroutine(tmp_path: Path) -> None:
    serve = """
    import http.server, sys
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()
    """
    async with Supervisor([child("web", serve)], data=tmp_path / "one"):
        log = tmp_path / "one" / "logs" / "web.log"
        await until(lambda: log.read_text().endswith("\n"))
        port = int(log.read_text())

        async def fine() -> bool:
            return True

        checks: list[Ready] = [Port(port), Url(f"http://127.0.0.1:{port}/"), fine]
        others = [child(f"other{n}", ready=check) for n, check in enumerate(checks)]
        async with Supervisor(others, data=tmp_path / "two") as supervisor:
            assert [status.state for status in supervisor.status()] == ["ready"] * 3
    absent = Child(name="absent", command=python(SLEEP), ready=Url(f"http://127.0.0.1:{port}/"), ready_timeout=0.3)
    with pytest.raises(ChildFailed, match="not ready"):
        await Supervisor([absent], data=tmp_path / "three").start()


async def test_a_second_supervisor_on_a_folder_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    async with Supervisor([child("worker")], data=tmp_path):
        with pytest.raises(FolderInUse, match=rf"in use by another Sluice \(process {os.getpid()}\)"):
            await Supervisor([child("worker")], data=tmp_path).start()
    async with Supervisor([child("worker")], data=tmp_path):
        pass


async def test_a_stop_asked_for_while_children_start_is_obeyed(tmp_path: Path) -> None:
    supervisor = Supervisor([child("never", ready=lambda: False)], data=tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: bool(supervisor.status()) and only(supervisor).pid is not None)
    supervisor.request_stop()
    await asyncio.wait_for(running, 10)
    assert only(supervisor).state == "stopped"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([("a", ()), ("a", ())], "repeat"),
        ([("a", ("b",))], "not there"),
        ([("a", ("b",)), ("b", ("a",))], "wait for each other"),
    ],
)
def test_children_that_cannot_be_ordered_are_refused(
    tmp_path: Path, names: list[tuple[str, tuple[str, ...]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Supervisor([child(name, after=after) for name, after in names], data=tmp_path)


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from sluice.runtime.child import Child
from sluice.runtime.supervisor import Supervisor
log = Path(sys.argv[1]) / "logs" / "worker.log"
code = "import time; print('up'); time.sleep(600)"
child = Child(name="worker", command=[sys.executable, "-S", "-c", code], ready=lambda: "up" in log.read_text())
supervisor = Supervisor([child], data=Path(sys.argv[1]))
asyncio.run(supervisor.run(lambda: print(supervisor.status()[0].pid, flush=True)))
"""


@contextmanager
def supervise(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A supervisor in a process of its own, and its one child's process id, once that child runs."""
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            lines = (line for line in process.stdout if line.strip().isdigit())
            yield process, int(next(lines))
        finally:
            process.kill()


async def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with supervise(tmp_path) as (supervisor, worker):
        assert not gone(worker)
        supervisor.kill()
        await until(lambda: gone(worker))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_and_ctrl_c_reaches_the_supervisor_alone(tmp_path: Path, number: int) -> None:
    with supervise(tmp_path) as (supervisor, worker):
        assert os.getpgid(worker) != os.getpgid(supervisor.pid)
        assert os.getsid(worker) != os.getsid(supervisor.pid)
        supervisor.send_signal(number)
        assert await asyncio.to_thread(supervisor.wait, 10) == 0
    assert gone(worker)


async def test_all_output_of_a_child_is_in_its_logs_which_are_bounded(tmp_path: Path) -> None:
    code = """
    import sys, time
    for n in range(3000):
        (sys.stdout if n % 2 else sys.stderr).write(f"line {n:06}\\n")
    time.sleep(600)
    """
    log = tmp_path / "logs" / "chatty.log"
    chatty = child("chatty", code, ready=lambda: log.read_text().endswith("line 002999\n"))
    async with Supervisor([chatty], data=tmp_path, log_bytes=16_000, logs_kept=3):
        files = sorted(log.parent.iterdir(), key=lambda file: file.name, reverse=True)
    assert [file.name for file in files] == ["chatty.log.3", "chatty.log.2", "chatty.log.1", "chatty.log"][
        -len(files) :
    ]
    assert len(files) > 1
    text = "".join(file.read_text() for file in files)
    first = int(text.split("\n", 1)[0].split()[-1])
    assert text == "".join(f"line {n:06}\n" for n in range(first, 3000))


def test_a_log_is_rotated_before_it_passes_its_limit_and_the_oldest_dropped(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "x.log", limit=10, kept=2)
    for letter in b"abcde":
        file.write(bytes([letter]) * 6)
    file.close()
    kept = {path.name: path.read_bytes()[:1] for path in tmp_path.iterdir()}
    assert kept == {"x.log": b"e", "x.log.1": b"d", "x.log.2": b"c"}


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    cuts=st.lists(st.integers(1, 80), min_size=1, max_size=10),
)
def test_a_log_keeps_its_limit_however_much_is_written_at_once(lines: list[bytes], cuts: list[int]) -> None:
    text = b"".join(line + b"\n" for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        file = RotatedFile(Path(folder) / "x.log", limit=20, kept=1000)
        rest, sizes = text, itertools.cycle(cuts)
        while rest:
            size = next(sizes)
            file.write(rest[:size])
            rest = rest[size:]
        file.close()
        names = ["x.log", *(f"x.log.{n}" for n in range(1, len(list(Path(folder).iterdir()))))]
        parts = [(Path(folder) / name).read_bytes() for name in reversed(names)]
    assert b"".join(parts) == text
    assert all(len(part) <= 20 for part in parts)


def test_a_log_is_cut_between_lines(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "x.log", limit=10, kept=2)
    file.write(b"one\ntwo\nthree\n")
    file.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "x.log": b"three\n",
        "x.log.1": b"one\ntwo\n",
    }


def test_a_log_is_continued_by_the_next_run(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        file = RotatedFile(tmp_path / "x.log", limit=100, kept=0)
        file.write(text)
        file.close()
    assert tail(tmp_path / "x.log", 5) == "one\ntwo"
    assert tail(tmp_path / "x.log", 1) == "two"
