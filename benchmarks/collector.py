"""Stands in for a collector of OTLP over HTTP: ``python benchmarks/collector.py [--spans FILE]``.

It prints its port, and answers all with 200. ``GET /counts`` tells what came. With a file, spans are written there, a
JSON object in a line.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Counts requests and bytes by path, and spans where they are kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.counts: Counter[str] = Counter()

    async def take(self, request: web.Request) -> web.Response:
        """A request of an exporter."""
        body = await request.read()
        kind = request.path.rpartition("/")[2]
        self.counts[f"{kind}_requests"] += 1
        self.counts[f"{kind}_bytes"] += len(body)
        if self._file is not None and kind == "traces":
            # aiohttp has undone the compression, unless it does not know it.
            self._keep(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.Response(content_type="application/x-protobuf")

    async def tell(self, _: web.Request) -> web.Response:
        """What came so far."""
        return web.json_response(self.counts)

    def _keep(self, body: bytes) -> None:
        assert self._file is not None
        told = ExportTraceServiceRequest.FromString(body)
        with self._file.open("a", encoding="utf-8") as out:
            for resource in told.resource_spans:
                of = _values(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.counts["spans"] += len(scope.spans)
                    for span in scope.spans:
                        out.write(json.dumps(_span(span, str(of.get("service.name")))) + "\n")


def _span(span: Any, service: str) -> dict[str, Any]:
    return {
        "service": service,
        "name": span.name,
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "error": span.status.code == 2,
        "attributes": _values(span.attributes),
        "links": [[link.trace_id.hex(), link.span_id.hex()] for link in span.links],
    }


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


async def serve(file: Path | None) -> None:
    """Until it is ended."""
    collector = Collector(file)
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/{path:.*}", collector.take)
    app.router.add_get("/counts", collector.tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Listen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=Path, help="file for the spans")
    asyncio.run(serve(parser.parse_args().spans))


if __name__ == "__main__":
    main()
