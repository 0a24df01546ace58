"""A real Sluice for tests: Kafka, ClickHouse, a mailbox and the services, each a process that a test may end and start.

The processes are those of ``sluice up``; here nothing restarts what dies, so that a test sees what a death leaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sluice.adapters.clickhouse.queries import Equation, Queries, Scope
from sluice.adapters.embedded.mailbox_behaviour import Behaviour
from sluice.adapters.embedded.mailbox_store import Mailbox, Received
from sluice.client import Client, new_message_id
from sluice.domain.events import Priority
from sluice.domain.topics import DEAD
from sluice.local.demo import RULES
from sluice.local.options import Options
from sluice.local.seed import Reference, push
from sluice.local.stack import LocalStack, plan
from sluice.runtime.child import Child, is_ready
from sluice.runtime.keeper import LAUNCHER

PARTS = ("kafka", "clickhouse", "mailbox")
PATIENCE = 30.0
"""Seconds that anything a test waits for may take."""


class Stack:
    """Everything, by name: ``kafka``, ``clickhouse``, ``mailbox``, ``compose-1``, ``deliver-1``, ``wheel-1``,
    ``record-1``.

    Retries wait seconds, as in the demo (``sluice/local/demo_rules``). Tests share it: use recipients of your own
    (:meth:`address`), and leave running what you found running.
    """

    def __init__(self, local: LocalStack) -> None:
        self.local = local
        self.mailbox = Mailbox(local.folder.mailbox)
        self._children: dict[str, Child] = {child.name: child for child in local.children}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clickhouse = local.clickhouse
        self._client: Client | None = None

    # Processes

    @property
    def names(self) -> list[str]:
        """All processes, parts first."""
        return list(self._children)

    def pid(self, name: str) -> int:
        """Of a running process."""
        return self._processes[name].pid

    def start(self, *names: str, timeout: float = 120.0) -> None:
        """Start processes side by side, and return when all are ready."""
        for name in names:
            child = self._children[name]
            log = self.local.folder.logs / f"{name}.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("ab") as output:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *child.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **child.env},
                    start_new_session=True,
                )
        deadline = time.monotonic() + timeout
        for name in names:
            while not asyncio.run(is_ready(self._children[name].ready)):
                log_end = (self.local.folder.logs / f"{name}.log").read_text(errors="replace")[-3000:]
                if self.local.failure is not None:
                    raise self.local.failure
                assert self._processes[name].poll() is None, f"{name} ended before it was ready:\n{log_end}"
                assert time.monotonic() < deadline, f"{name} is not ready after {timeout:g} s:\n{log_end}"
                time.sleep(0.1)

    def kill(self, name: str) -> None:
        """End a process with SIGKILL, and wait until it is gone."""
        process = self._processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def suspend(self, name: str, seconds: float) -> None:
        """Have a process stand still for a while."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def stop(self, *names: str, timeout: float = 30.0) -> None:
        """End processes with SIGTERM; they must end in time, with status 0 (Java's is 143)."""
        ending = {name: self._processes.pop(name) for name in names if name in self._processes}
        for process in ending.values():
            process.terminate()
        for name, process in ending.items():
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"{name} did not stop within {timeout:g} s") from None
            assert status in (0, 143), f"{name} ended with status {status}"

    def close(self) -> None:
        """End everything that runs, services first."""
        if self._client is not None:
            self._client.close(5)
        self._clickhouse.close()
        services = [name for name in self._processes if name not in PARTS]
        try:
            self.stop(*services)
        finally:
            for process in self._processes.values():
                process.terminate()
            for process in self._processes.values():
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    # Publishing

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.local.settings.kafka_bootstrap

    @property
    def client(self) -> Client:
        """The SDK's client."""
        if self._client is None:
            self._client = Client(self.bootstrap, source="tests")
        return self._client

    def send(self, priority: Priority | None = None, **fields: Any) -> str:
        """Publish one event of ``acme`` through the SDK; returns its message id. Content is made up when not given."""
        event: dict[str, Any] = {"tenant_id": "acme", **fields}
        event["to"] = [{"email": each} if isinstance(each, str) else each for each in event["to"]]
        if not {"template", "subject", "html", "text"} & set(event):
            event |= {"subject": "A story", "text": "Once upon a time.\n"}
        return self.client.send(event, priority).message_id

    def produce(self, topic: str, *values: bytes, key: bytes = b"key.example") -> None:
        """Publish bytes as they are."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "message.max.bytes": 60_000_000})
        for value in values:
            producer.produce(topic, value, key)
        assert producer.flush(30) == 0

    def publish(self, **fields: Any) -> str:
        """Publish an event without the SDK's checks; returns its message id."""
        event = {"message_id": new_message_id(), "tenant_id": "acme", "subject": "A story", "text": "Once.\n", **fields}
        self.produce("mail.send.normal", json.dumps(event).encode())
        return str(event["message_id"])

    def reference(self, *entries: Reference) -> None:
        """Publish reference data. Services take it in within a fraction of a second: wait for its effect."""
        push(self.local.settings, entries)

    @staticmethod
    def address(word: str = "", domain: str = "story.example") -> str:
        """An address that no other test uses; ``word`` tells the mailbox how to misbehave (``+defer1``)."""
        return f"u{uuid.uuid4().hex[:12]}{word}@{domain}"

    # What became of it

    def outcomes(self, message_id: str) -> list[dict[str, Any]]:
        """The mail's rows in ClickHouse's ``outcomes``, in order."""
        sql = (
            "SELECT * FROM {db}.outcomes WHERE message_id = {id:String} "
            "ORDER BY event_time, attempt, log_partition, log_offset"
        )
        return self.query(sql, {"id": message_id})

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a query; ``{db}`` stands for Sluice's database."""
        return self._clickhouse.rows(sql.replace("{db}", self._clickhouse.database), parameters)

    def until(self, message_id: str, *event_types: str, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """The mail's outcomes, once one of ``event_types`` is among them."""
        return wait_for(
            lambda: self.outcomes(message_id),
            lambda rows: any(row["event_type"] in event_types for row in rows),
            timeout,
            f"{' or '.join(event_types)} of {message_id}",
        )

    def equation(self, message_ids: Sequence[str] | None = None, since: datetime | None = None) -> Equation:
        """Where mails stand, once that is told of all outcomes there are: it is, some milliseconds after them."""
        behind = (
            "SELECT count() AS n FROM "
            "(SELECT message_id, max(event_time) AS last_at FROM {db}.outcomes GROUP BY ALL) AS o "
            "LEFT JOIN (SELECT message_id, max(m.last_at) AS last_at FROM {db}.mails AS m GROUP BY ALL) AS s "
            "USING message_id WHERE o.last_at != s.last_at"
        )
        wait_for(lambda: self.query(behind)[0]["n"], lambda count: count == 0, PATIENCE, "what is told of all outcomes")
        return Queries(self._clickhouse).equation(Scope(message_ids=message_ids, since=since))

    def dead_letters(self, mark: str) -> int:
        """How many records of ``mail.dead`` hold ``mark``."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "tests", "enable.auto.commit": False})
        try:
            consumer.assign([TopicPartition(DEAD, 0, 0)])
            _, end = consumer.get_watermark_offsets(TopicPartition(DEAD, 0), timeout=10)
            found = consumer.consume(end, timeout=10) if end else []
            return sum(mark.encode() in (record.value() or b"") for record in found)
        finally:
            consumer.close()

    def received(self, recipient: str) -> list[Received]:
        """What the mailbox has for an address."""
        return [mail for mail in self.mailbox.received() if recipient in mail.rcpt_to]

    def mail(self, recipient: str, timeout: float = PATIENCE) -> bytes:
        """The one mail that the mailbox has for an address, waited for."""
        found = wait_for(lambda: self.received(recipient), bool, timeout, "a mail in the mailbox")
        assert len(found) == 1, f"{len(found)} mails came"
        return self.mailbox.content(found[0])

    @contextmanager
    def misbehaving(self, *rules: Behaviour) -> Iterator[None]:
        """Have the mailbox follow ``rules`` meanwhile."""
        self._behave(rules)
        try:
            yield
        finally:
            self._behave(())

    def _behave(self, rules: Sequence[Behaviour]) -> None:
        url = f"http://127.0.0.1:{self.local.ports['mailbox-control']}/behaviours"
        request = urllib.request.Request(url, msgspec.json.encode(tuple(rules)), method="PUT")
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200


def wait_for(look: Callable[[], Any], good: Callable[[Any], bool], timeout: float = PATIENCE, what: str = "it") -> Any:
    """What ``look`` returns, once it is ``good``; fails with the last of it when that takes too long."""
    deadline = time.monotonic() + timeout
    while not good(found := look()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}; last seen: {_brief(found)}"
        time.sleep(0.1)
    return found


def _brief(found: Any) -> Any:
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return [{name: value for name, value in row.items() if value and name != "recipient_hash"} for row in found]
    return found


def open_stack(data: Path, reference: Sequence[Reference], **options: Any) -> Stack:
    """A stack with its own ports that is planned and not started; ``options`` as in :class:`Options`."""
    first_port = 20_000 + (os.getpid() * 37 + uuid.uuid4().int) % 11_000
    usual: dict[str, Any] = {"rules": RULES, "mailbox_timeout": 12.0, "first_port": first_port}
    return Stack(plan(Options(data=data, **{**usual, **options}), reference))


def settle_commands(stack: Stack, patch: pytest.MonkeyPatch, **more: str) -> None:
    """Have the ``sluice`` command talk to the stack's Kafka and send by its routes, with ``more`` variables."""
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            patch.delenv(name)
    ours = {"SLUICE_KAFKA_BOOTSTRAP": stack.bootstrap, "SLUICE_ROUTES": stack.local.settings.routes}
    for name, value in {**ours, **more}.items():
        patch.setenv(name, value)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
