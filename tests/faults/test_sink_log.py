"""The adversarial receiving server: what it took is known, whatever it answered and however it died."""

from __future__ import annotations

import http.client
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.stack import wait_for

from sluice.adapters.embedded.ports import free_port
from sluice.local.torture.sinklog import FILE, SinkLog, read_sink_log

CONTENT = "Message-ID: <{}@acme.example>\r\nSubject: x\r\n\r\nbody\r\n"


class Sink:
    """The process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.control = free_port(), free_port()
        self.start()

    def start(self) -> None:
        ports = ["--port", str(self.port), "--control-port", str(self.control)]
        command = [sys.executable, "-m", "sluice.local.torture.sink", "--data", str(self.folder), *ports]
        self.process = subprocess.Popen(command)
        wait_for(self._answers, bool, 30, "the sink")

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/healthz") == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.control, timeout=5)
        try:
            connection.request(method, path, body)
            return connection.getresponse().status
        finally:
            connection.close()

    def behave(self, mode: str) -> None:
        assert self.ask("PUT", "/mode", mode) == 200

    def send(self, message_id: str) -> int:
        """The code after the final dot, or an exception; the server is given a second."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=1) as client:
            client.ehlo()
            client.mail("a@acme.example")
            client.rcpt("b@site.example")
            return client.data(CONTENT.format(message_id))[0]

    def taken(self) -> list[tuple[str, bool, str | None]]:
        return [(copy.message_id, copy.kept, copy.reply) for copy in read_sink_log(self.folder)]

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    made = Sink(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_what_is_answered_was_written_before(sink: Sink) -> None:
    assert sink.send("m0") == 250
    assert sink.taken() == [("m0", True, "250")]
    sink.end()


def test_silence_and_resets_leave_the_mail_with_the_server(sink: Sink) -> None:
    sink.behave("hang")
    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        sink.send("m0")
    sink.behave("drop")
    with pytest.raises((ConnectionResetError, smtplib.SMTPServerDisconnected)):
        sink.send("m1")
    assert sink.taken() == [("m0", True, "none"), ("m1", True, "reset")]


def test_a_busy_server_takes_nothing(sink: Sink) -> None:
    """Every other mail is refused at MAIL, and the rest after the final dot."""
    sink.behave("busy")
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=5) as client:
        client.ehlo()
        assert client.mail("a@acme.example")[0] == 250
        assert client.rcpt("b@site.example")[0] == 250
        assert client.data(CONTENT.format("m0"))[0] == 421
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=5) as client:
        client.ehlo()
        assert client.mail("a@acme.example")[0] == 421
    assert sink.taken() == [("m0", False, "421")]


def test_a_mail_in_one_write_is_taken_too(sink: Sink) -> None:
    content = CONTENT.format("m0").encode()
    with socket.create_connection(("127.0.0.1", sink.port), timeout=5) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n")
        client.sendall(b"BDAT %d LAST\r\n" % len(content) + content + b"QUIT\r\n")
        answers = b""
        while piece := client.recv(4096):
            answers += piece
    assert answers.endswith(b"250 2.0.0 Taken\r\n221 2.0.0 Bye\r\n")
    assert sink.taken() == [("m0", True, "250")]


def test_what_it_had_written_survives_its_sigkill(sink: Sink) -> None:
    assert sink.send("m0") == 250
    os.kill(sink.process.pid, signal.SIGKILL)
    sink.process.wait()
    with (sink.folder / FILE).open("ab") as file:
        file.write(b'{"run":1,"number":1,"at":1.0,"mess')
    sink.start()
    assert sink.send("m1") == 250
    assert sink.taken() == [("m0", True, "250"), ("m1", True, "250")]


def test_a_mail_whose_reply_was_never_written_is_kept(tmp_path: Path) -> None:
    log = SinkLog(tmp_path)
    log.dot("m0", kept=True)
    log.close()
    assert [(copy.kept, copy.reply) for copy in read_sink_log(tmp_path)] == [(True, None)]
