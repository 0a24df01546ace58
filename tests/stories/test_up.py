"""`sluice up`: starts everything, stops everything, and goes on where it was."""

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.stack import Stack, wait_for

from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
UP = [sys.executable, "-c", "from sluice.cli import main; main()", "up", "--plain"]


def start(data: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start it and return when it says that everything runs, or has ended."""
    said = data.with_suffix(".log")
    with said.open("w") as log:
        process = subprocess.Popen([*UP, "--data", str(data), *arguments], stdout=log, stderr=log, text=True)
    wait_for(lambda: "everything runs" in said.read_text() or process.poll() is not None, bool, 120, "the start")
    return process


def stop(process: subprocess.Popen[str]) -> float:
    """Press ctrl-c; returns the seconds that it took."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    return time.monotonic() - began


def settings(data: Path) -> dict[str, str]:
    """What sluice.env exports."""
    lines = (data / "sluice.env").read_text().splitlines()
    return dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)


def send(data: Path, to: str) -> None:
    with Client(settings(data)["SLUICE_KAFKA_BOOTSTRAP"], source="test") as client:
        client.send({"tenant_id": "acme", "to": [{"email": to}], "subject": "Hi", "text": "Hi"})


def test_it_starts_stops_and_goes_on_where_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start(data)
    assert first.poll() is None, data.with_suffix(".log").read_text()
    where, ports = settings(data), json.loads((data / "ports.json").read_text())
    send(data, "one@mail.example")
    wait_for(lambda: len(list(Mailbox(data / "mailbox").received())), lambda n: n == 1, 30, "the mail")
    refused = subprocess.run([*UP, "--data", str(data)], capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "in use" in refused.stderr) == (1, True), refused.stderr
    assert stop(first) < 45
    for port in ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something still listens on {port}"

    second = start(data)
    try:
        assert second.poll() is None, data.with_suffix(".log").read_text()
        assert settings(data) == where
        send(data, "two@mail.example")
        wait_for(lambda: len(list(Mailbox(data / "mailbox").received())), lambda n: n == 2, 30, "the second mail")
    finally:
        stop(second)
    assert {mail.rcpt_to[0] for mail in Mailbox(data / "mailbox").received()} == {
        "one@mail.example",
        "two@mail.example",
    }


def test_it_uses_outside_parts_instead_of_its_own(stack: Stack, tmp_path: Path) -> None:
    data = tmp_path / "data"
    to = stack.address()
    outside = ["--kafka", stack.bootstrap, "--clickhouse", stack.local.settings.clickhouse_url]
    outside += ["--smtp", f"127.0.0.1:{stack.local.ports['mailbox']}"]
    process = start(data, *outside, "--wheel", "0", "--compose", "0", "--record", "0")
    try:
        assert process.poll() is None, data.with_suffix(".log").read_text()
        assert not (data / "kafka").exists()
        assert not (data / "clickhouse").exists()
        stack.send(to=[to])
        stack.mail(to)
    finally:
        stop(process)


def test_an_outside_kafka_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = subprocess.run(
            [*UP, "--data", str(tmp_path / "data"), "--kafka", address],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr
