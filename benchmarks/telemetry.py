"""What telemetry costs each mail: the same decisions over the twins, with and without counting and spans.

``python benchmarks/telemetry.py [MAILS]``. One process, no network; rounds alternate, and the least of each is told, so
that other work on the machine does not count. Compare with what a mail costs over real parts (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from sluice.adapters.telemetry.meters import Meters
from sluice.adapters.telemetry.sampling import FailuresAndAShare
from sluice.adapters.telemetry.tally import CountingRecorder, OutcomeTally
from sluice.adapters.telemetry.tracing import OtelSpans
from sluice.domain.bounce import DELIVERED
from sluice.domain.conclusion import Recorder, Way
from sluice.domain.mail import Envelope, Headers
from sluice.domain.smtp import Replied
from sluice.ports.metrics import METRICS, Figure
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
TRIED = Tried(1, Replied("dot", 250, "ok"), DELIVERED, Way("mx.site.example", "192.0.2.1"), 2.0, 2.1)


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


def spans(told: OtelSpans, mails: int) -> float:
    """Seconds of CPU for the two spans of a mail."""
    began = time.process_time()
    for _ in range(mails):
        composing = told.composing(TRACEPARENT, "mail.send.normal", "m", 1.0)
        if composing is not None:
            composing.end(["composed"], 2.0)
        told.tried(HEADERS, ENVELOPE, TRIED)
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


def main() -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    tally = OutcomeTally([f"site{number}" for number in range(15)])
    plain, counting = Recorder("n", b"k"), CountingRecorder("n", b"k", tally)
    none, everything = (OtelSpans(Resource({}), Nowhere(), FailuresAndAShare(share)) for share in (0.01, 1.0))
    took: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        took.setdefault("outcomes alone", []).append(outcomes(plain, mails))
        took.setdefault("outcomes counted", []).append(outcomes(counting, mails))
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
