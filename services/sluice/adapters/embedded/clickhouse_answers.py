"""What the embedded ClickHouse answers with: status, headers and texts as ClickHouse's server has them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from sluice.adapters.embedded.clickhouse_engine import EngineError, Stats

_STATUS = {
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 43, 53, 62, 70, 72, 117, 130, 131, 192, 261, 441), 400),
    **dict.fromkeys((164, 497), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 107, 115), 404),
    **dict.fromkeys((159, 160), 408),
    **dict.fromkeys((48, 344), 501),
    **dict.fromkeys((202, 203, 209), 503),
    307: 413,
}
"""HTTP status by ClickHouse's error code, as its server answers; 500 for the others."""


def starting() -> web.Response:
    """The engine is being loaded."""
    return web.Response(status=503, text="starting\n", headers={"Retry-After": "1"})


def failure(message: str, status: int, headers: Mapping[str, str]) -> web.Response:
    """A refusal in words."""
    return web.Response(status=status, text=message.rstrip() + "\n", headers=headers)


def engine_failure(error: EngineError, headers: Mapping[str, str]) -> web.Response:
    """What the engine refused, with ClickHouse's code."""
    return failure(
        str(error), _STATUS.get(error.code, 500), {**headers, "X-ClickHouse-Exception-Code": str(error.code)}
    )


def summary(stats: Stats) -> str:
    """The header X-ClickHouse-Summary."""
    return json.dumps(
        {
            "read_rows": str(stats.read_rows),
            "read_bytes": str(stats.read_bytes),
            "written_rows": str(stats.written_rows),
            "written_bytes": str(stats.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(stats.result_rows),
            "result_bytes": "0",
            "elapsed_ns": str(int(stats.elapsed * 1e9)),
        }
    )


def content_type(form: str) -> str:
    """The media type of a format."""
    name = form.lower()
    if "eachrow" in name or name in ("jsonlines", "ndjson"):
        return "application/x-ndjson; charset=UTF-8"
    if name.startswith("json"):
        return "application/json; charset=UTF-8"
    if name.startswith(("tabseparated", "tsv")):
        return "text/tab-separated-values; charset=UTF-8"
    if name.startswith("csv"):
        return "text/csv; charset=UTF-8; header=" + ("present" if "names" in name else "absent")
    if name in ("native", "arrow", "arrowstream", "parquet", "orc") or name.startswith("rowbinary"):
        return "application/octet-stream"
    return "text/plain; charset=UTF-8"
