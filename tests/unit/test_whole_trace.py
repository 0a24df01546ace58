"""One trace from a producer's publish to the record, over all four services, as a file exporter writes it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from tests.support.compose import TOPICS as COMPOSING
from tests.support.compose import Worker as ComposeWorker
from tests.support.deliver import TOPICS as DELIVERING
from tests.support.deliver import Worker as DeliverWorker
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.adapters.memory.bus import MemoryBus
from sluice.adapters.memory.follower import MemoryFollower
from sluice.adapters.memory.outcomes import MemoryBatches, MemoryOutcomes
from sluice.adapters.smtp import SmtpMailer
from sluice.adapters.telemetry.sampling import FailuresAndAShare
from sluice.adapters.telemetry.tracing import OtelSpans
from sluice.domain.topics import OUTCOME, READY, WHEEL
from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.ports.mailer import Timeouts
from sluice.record.service import Recorder
from sluice.wheel.turner import WheelTurner


class LaterClock:
    """The machine's time, and as much later as it was told."""

    def __init__(self) -> None:
        self.later = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.later

    async def sleep(self, seconds: float) -> None:
        """Really."""
        await asyncio.sleep(seconds)


async def until(found: Callable[[], Any]) -> Any:
    """What is found at last."""
    for _ in range(3_000):
        if result := found():
            return result
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def taken(record: Record, topic: str, partition: int, offset: int, now: float) -> Taken:
    """A record, read."""
    return Taken(topic, partition, offset, record.key, record.value, record.headers, now)


class Pipeline:
    """The four services over one log in memory, SMTP over a socket, their spans in one file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / "spans.jsonl"
        self._out = self.file.open("w")
        self.clock = LaterClock()
        self.bus = MemoryBus({**COMPOSING, **DELIVERING})
        self.compose = ComposeWorker(folder, bus=self.bus, clock=self.clock)  # type: ignore[arg-type]
        self.compose.handler._spans = self.spans("compose")
        route = f"*=smtp://127.0.0.1:{port}?tls=opportunistic"
        mailer = SmtpMailer(Timeouts(connect=30, command=30, data=30, dot=30, quit=5))
        self.deliver = DeliverWorker(bus=self.bus, clock=self.clock, mailer=mailer, routes=route)  # type: ignore[arg-type]
        self.deliver.senders._attempts._spans = self.spans("deliver")
        self.follower = MemoryFollower()
        self.wheel = WheelTurner(self.follower, self.bus, self.clock, self.spans("wheel"))
        self._all: list[OtelSpans]

    def spans(self, service: str) -> OtelSpans:
        """Of one service."""
        exporter = ConsoleSpanExporter(out=self._out, formatter=lambda span: span.to_json(indent=None) + "\n")
        told = OtelSpans(Resource({"service.name": f"sluice-{service}"}), exporter, FailuresAndAShare(1.0))
        self._all = [*getattr(self, "_all", []), told]
        return told

    def producer(self) -> TracerProvider:
        """What traces the application that sends mail."""
        provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        exporter = ConsoleSpanExporter(out=self._out, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider

    async def send_out(self, offset: int) -> None:
        """Deliver takes the ready mail that came last."""
        ((_, partition), records) = next(
            (place, found) for place, found in self.bus.stored.items() if place[0] == READY["normal"]
        )
        await self.deliver.take(taken(records[-1], READY["normal"], partition, offset, self.clock.now()))

    async def turn(self) -> None:
        """The wheel takes what was put into it, and lets it go an hour later."""
        ((topic, partition), records) = next(
            (p, found) for p, found in self.bus.stored.items() if p[0] in WHEEL.values()
        )
        self.follower.put(taken(records[-1], topic, partition, 0, self.clock.now()))
        await self.wheel.turn()
        self.clock.later += 3_600
        await self.wheel.turn()

    async def record(self) -> None:
        """All outcomes are stored, in one batch."""
        source = MemoryBatches()
        for (topic, partition), records in self.bus.stored.items():
            for record in records if topic == OUTCOME else ():
                source.append(partition, record.value, record.headers)
        store = MemoryOutcomes()
        recorder = Recorder(source=source, store=store, bus=self.bus, clock=self.clock, spans=self.spans("record"))
        stop = asyncio.Event()
        running = asyncio.create_task(recorder.run(stop))
        await until(lambda: source.lag() == 0)
        stop.set()
        await asyncio.wait_for(running, 30)

    def exported(self) -> list[dict[str, Any]]:
        """Every span in the file, in the order in which they began."""
        for told in self._all:
            told.close()
        self._out.close()
        found = [json.loads(line) for line in self.file.read_text().splitlines()]
        return sorted(found, key=lambda span: span["start_time"])


async def test_a_mail_that_is_put_off_once_is_one_trace_from_publish_to_record(tmp_path: Path) -> None:
    """With the parts of each conversation, the time in the wheel, and the batch in which it was recorded, linked."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    refusals = [b"451 4.7.1 <ann@site.example>: greylisted\r\n"]

    async def greylist(peer: Peer) -> None:
        await peer.say(refusals.pop() if refusals else b"250 2.1.5 ok\r\n")

    answers: dict[str, Any] = {"RCPT": greylist}
    async with ScriptedServer(polite(answers, context=tls)) as server:
        pipeline = Pipeline(tmp_path, server.port)
        tracer = pipeline.producer().get_tracer("shop")
        with tracer.start_as_current_span("send mail.send.normal", kind=SpanKind.PRODUCER):
            carrier: dict[str, str] = {}
            inject(carrier)
        headers = [("traceparent", carrier["traceparent"].encode())]
        await pipeline.compose.send(pipeline.compose.event(), headers=headers)
        await pipeline.send_out(0)
        await until(lambda: any(topic in WHEEL.values() for topic, _ in pipeline.bus.stored))
        await pipeline.turn()
        answers.pop("RCPT")
        await pipeline.send_out(1)
        await until(lambda: pipeline.deliver.outcomes("delivered"))
        await pipeline.record()
        await pipeline.deliver.close()
    spans = pipeline.exported()

    published = next(span for span in spans if span["name"] == "send mail.send.normal")
    trace = published["context"]["trace_id"]
    (batch,) = [span for span in spans if span["context"]["trace_id"] != trace]
    own = [span for span in spans if span is not batch]
    ids = {span["context"]["span_id"]: span for span in own}
    assert all(span["parent_id"] in ids for span in own if span is not published)

    def below(parent: dict[str, Any]) -> list[str]:
        return [span["name"] for span in own if span["parent_id"] == parent["context"]["span_id"]]

    (composing,) = [span for span in own if span["name"] == "process mail.send.normal"]
    attempts = [span for span in own if span["name"] == "smtp deliver"]
    (rested,) = [span for span in own if span["name"].startswith("process mail.wheel")]
    assert below(published) == [composing["name"]]
    assert sorted(below(composing)) == sorted([rested["name"], "smtp deliver", "smtp deliver"])
    greeting = ["smtp connect", "smtp banner", "smtp ehlo", "smtp starttls", "smtp tls", "smtp ehlo"]
    for attempt, ending in zip(attempts, (["mail", "rcpt"], ["mail", "rcpt", "data", "dot"]), strict=True):
        parts = [name for name in below(attempt) if name not in ("smtp content", "send mail.outcome")]
        transaction = [f"smtp {phase}" for phase in ending]
        assert parts[-len(ending) - 1 :] == [*transaction, "process mail.outcome"]
        assert parts[: -len(ending) - 1] in (greeting, ["smtp rset"])
    assert [attempt["status"]["status_code"] for attempt in attempts] == ["ERROR", "UNSET"]
    assert rested["attributes"]["sluice.waited_for"] == "retry"
    assert attempts[1]["attributes"]["sluice.waited.retry_ms"] > 3_000_000

    assert batch["attributes"]["messaging.batch.message_count"] == len(pipeline.deliver.outcomes())
    linked = {link["context"]["span_id"] for link in batch["links"]}
    assert linked == {attempt["context"]["span_id"] for attempt in attempts}
    back = [span["links"][0]["context"]["span_id"] for span in own if span["name"] == "process mail.outcome"]
    assert back == [batch["context"]["span_id"]] * 2
    text = pipeline.file.read_text()
    assert "@" not in text
    assert "greylisted" not in text
