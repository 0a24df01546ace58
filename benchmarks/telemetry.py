"""What telemetry costs each mail: the same decisions over the twins, with and without counting, notes and spans.

``python benchmarks/telemetry.py``. One process, no network; rounds alternate, and the least of each is told, so that
other work on the machine does not count. Compare with what a mail costs over real parts (docs/performance.md).

``python benchmarks/telemetry.py --pipeline``: the whole pipeline with and without, see telemetry_pipeline.py.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import structlog
from harness import told as telling
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from telemetry_pipeline import report

from sluice.adapters.clickhouse.rows import outcome_row
from sluice.adapters.telemetry.meters import Meters
from sluice.adapters.telemetry.sampling import FailuresAndAShare
from sluice.adapters.telemetry.tally import CountingRecorder, OutcomeTally
from sluice.adapters.telemetry.tracing import OtelSpans
from sluice.domain.bounce import DELIVERED
from sluice.domain.conclusion import Recorder, Way
from sluice.domain.conversation import Moment, Part, Transcript
from sluice.domain.mail import Envelope, Headers
from sluice.domain.outcome import decode_outcome, encode_outcome
from sluice.domain.smtp import Replied
from sluice.ports.metrics import METRICS, Figure
from sluice.ports.outcomes import Recorded
from sluice.ports.spans import Tried

ROUNDS = 7
ENVELOPE = Envelope(
    message_id="0198f3a0-5c00-7000-8000-000000000002", rfc5322_message_id="m@acme.example", tenant_id="acme",
    stream="transactional", priority="normal", mail_from="a@acme.example", rcpt_to="b@site.example",
    domain="site.example", site="site.example", lane="site.example#0", size=4096, queued_at=1.0, composed_at=2.0,
    expires_at=9e9,
)  # fmt: skip
TRACEPARENT = "00-4bf92f3577b34da6f3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS: Headers = [("ce_id", b"m"), ("traceparent", TRACEPARENT.encode())]
TALK: tuple[tuple[Moment, str, int, str], ...] = (
    ("mail", "MAIL FROM:<…> SIZE=4211", 250, "2.1.0 Ok"),
    ("rcpt", "RCPT TO:<…>", 250, "2.1.5 Ok"),
    ("log", "", 0, ""),
    ("data", "DATA", 354, "End data with <CR><LF>.<CR><LF>"),
    ("content", "(4211 octets)", 0, ""),
    ("dot", ".", 250, "2.0.0 Ok: queued as 4XyZ123abc"),
)
PARTS = [Part(phase, command, 2.0, 2.1, code, (text,)) for phase, command, code, text in TALK if code]
TRIED = Tried(1, Replied("dot", 250, "ok"), DELIVERED, Way("mx.site.example", "192.0.2.1"), 2.0, 2.1, PARTS)


class Nowhere(SpanExporter):
    """Takes spans and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Nothing."""
        return SpanExportResult.SUCCESS


def outcomes(recorder: Recorder, mails: int) -> float:
    """Seconds of CPU for the three outcomes that a mail has."""
    began = time.process_time()
    for number in range(mails):
        for kind in ("composed", "attempted", "delivered"):
            recorder.of_mail(ENVELOPE, kind, 3.0, number, attempt=1)
    return time.process_time() - began


def spans(tracing: OtelSpans, mails: int) -> float:
    """Seconds of CPU for the two spans of a mail."""
    began = time.process_time()
    for _ in range(mails):
        composing = tracing.composing(TRACEPARENT, "mail.send.normal", "m", 1.0)
        if composing is not None:
            composing.end(["composed"], 2.0)
        tracing.tried(HEADERS, ENVELOPE, TRIED)
    return time.process_time() - began


async def scraping(tally: OutcomeTally) -> tuple[float, int]:
    """Seconds of CPU for a scrape, and its bytes."""
    figures = [Figure(metric, 1.0, ("x",) * len(metric.labels)) for metric in METRICS if metric.kind != "histogram"]
    meters = Meters("deliver", Resource({}), lambda: [*figures, *tally.figures()])
    text = await meters.text()
    began = time.process_time()
    for _ in range(20):
        await meters.text()
    took = (time.process_time() - began) / 20
    await meters.close()
    return took, len(text)


def told(recorder: Recorder, mails: int, *, talking: bool) -> float:
    """Seconds of CPU for the outcome of a delivered mail, from its conversation to its bytes and back."""
    began = time.process_time()
    for _ in range(mails):
        way = TRIED.way
        if talking:
            way = msgspec.structs.replace(way, conversation=talk().told())
        outcome = recorder.of_mail(
            ENVELOPE, "delivered", 3.0, 1, attempt=1, way=way, result=TRIED.result, verdict=DELIVERED
        )
        row = outcome_row(Recorded(decode_outcome(encode_outcome(outcome)), 0, 1))
        msgspec.json.encode(row)
    return time.process_time() - began


def talk() -> Transcript:
    """A mail over a connection that took others before it."""
    found = Transcript(time.time, 17)
    for phase, command, code, text in TALK:
        found.say(phase, command)
        if code:
            found.hear(code, (text,))
        else:
            found.passed()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, help="in a round (5,000; 6,000 over the pipeline)")
    parser.add_argument("--pipeline", action="store_true", help="measure the whole pipeline")
    parser.add_argument("--pairs", type=int, default=4, help="rounds of each kind over the pipeline (%(default)s)")
    parser.add_argument(
        "--scrape-every",
        type=float,
        default=15.0,
        help="seconds in which each process is asked for its metrics once (%(default)s; the chart's default is 30)",
    )
    chosen = parser.parse_args()
    if chosen.pipeline:
        with telling("telemetry"):
            report(chosen.mails or 6_000, chosen.pairs, warm_up=1_500, scrape_every=chosen.scrape_every)
    else:
        parts(chosen.mails or 5_000)


def parts(mails: int) -> None:
    """What each part of telemetry costs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    tally = OutcomeTally([f"site{number}" for number in range(15)])
    plain, counting = Recorder("n", b"k"), CountingRecorder("n", b"k", tally)
    none, everything = (OtelSpans(Resource({}), Nowhere(), FailuresAndAShare(share)) for share in (0.01, 1.0))
    took: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        took.setdefault("outcomes alone", []).append(outcomes(plain, mails))
        took.setdefault("outcomes counted", []).append(outcomes(counting, mails))
        took.setdefault("a delivered mail's outcome, to its row", []).append(told(plain, mails, talking=False))
        took.setdefault("with its conversation", []).append(told(plain, mails, talking=True))
        took.setdefault("spans, of a trace that is left out", []).append(spans(none, mails))
        took.setdefault("spans, of one that is exported", []).append(spans(everything, mails))
    print(f"{datetime.now(UTC):%Y-%m-%d}: CPU for each mail, the least of {ROUNDS} rounds of {mails:,}")
    for name, rounds in took.items():
        print(f"  {name:<36} {min(rounds) / mails * 1e6:7.1f} µs")
    scrape, size = asyncio.run(scraping(tally))
    print(f"  a scrape                             {scrape * 1e3:7.1f} ms, {size:,} bytes")
    for each in (none, everything):
        each.close()


if __name__ == "__main__":
    main()
