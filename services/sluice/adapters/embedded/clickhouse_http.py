"""ClickHouse's HTTP interface over the embedded engine (https://clickhouse.com/docs/interfaces/http).

Served: GET and POST with the statement in ``query`` and/or the body, settings and ``param_*`` in the URL or in a
multipart form, compressed requests and responses, ``/ping``. Sessions are accepted and ignored. Not served: the native
block compression of ``compress=1``/``decompress=1``, external tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import TypeVar

import structlog
from aiohttp import BodyPartReader, web

from sluice.adapters.embedded.clickhouse_answers import content_type, engine_failure, failure, starting, summary
from sluice.adapters.embedded.clickhouse_encoding import Decoder, Encoder, UnknownEncoding, choose_encoding
from sluice.adapters.embedded.clickhouse_engine import Engine, EngineError, Session
from sluice.adapters.embedded.clickhouse_statement import STREAMABLE, Statement, read_statement

log = structlog.get_logger(__name__)
T = TypeVar("T")

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_NOT_SETTINGS = frozenset(
    (
        *("query", "query_id", "database", "default_format", "user", "password", "quota_key", "role", "stacktrace"),
        *("session_id", "session_timeout", "session_check", "close_session", "compress", "decompress"),
        *("buffer_size", "wait_end_of_query", "client_protocol_version", "async_insert", "wait_for_async_insert"),
    )
)
_HEAD = 1 << 20
"""Bytes of a request that are searched for the statement when rows follow it."""
_PIECE = 1 << 20
_LARGEST_FIELD = 64 << 20


class Gateway:
    """Answers HTTP requests by running them in ``engine``, several at a time."""

    def __init__(self, engine: Engine, workers: int = 16) -> None:
        self.ready = False
        self._engine = engine
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="clickhouse")
        self._reading: set[str] = set()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=_LARGEST_FIELD)
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/replicas_status", self._ping)
        app.router.add_route("GET", "/", self._answer)
        app.router.add_route("POST", "/", self._answer)
        return app

    def interrupt(self) -> None:
        """Refuse what comes from now on, and stop the queries that only read; inserts come to their end."""
        self.ready = False
        for tag in list(self._reading):
            self._engine.kill(tag)

    def stop(self) -> None:
        """Wait for what still runs."""
        self.interrupt()
        self._threads.shutdown(wait=True)

    async def call(self, work: Callable[[], T]) -> T:
        """Run blocking work of the engine in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n") if self.ready else starting()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not _local(request):
            return web.Response(status=403, text="Requests on behalf of other web sites are not served.\n")
        if not self.ready:
            return starting()
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": "UTC"}
        try:
            with self._engine.spool() as body:
                fields = await self._receive(request, body)
                if request.method == "GET" and not fields.get("query") and body.tell() == 0:
                    return web.Response(text="Ok.\n", headers=headers)
                return await self._execute(request, fields, body, headers)
        except EngineError as error:
            log.info("statement refused", code=error.code, query_id=query_id)
            return engine_failure(error, headers)
        except (UnknownEncoding, ValueError) as error:
            return failure(f"Code: 36. DB::Exception: {error} (BAD_ARGUMENTS)", 400, headers)

    async def _receive(self, request: web.Request, body: SpooledTemporaryFile[bytes]) -> dict[str, str]:
        """Read the body into ``body``, decoded; returns URL parameters and form fields."""
        fields = dict(request.query)
        if request.content_type == "multipart/form-data":
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or part.filename is not None or part.name is None:
                    raise EngineError("Code: 48. DB::Exception: External tables are not served. (NOT_IMPLEMENTED)")
                fields[part.name] = await part.text()
            return fields
        decoder = Decoder(request.headers.get("Content-Encoding", "").lower())
        async for piece in request.content.iter_chunked(_PIECE):
            body.write(decoder.feed(piece))
        return fields

    async def _execute(
        self,
        request: web.Request,
        fields: Mapping[str, str],
        body: SpooledTemporaryFile[bytes],
        headers: dict[str, str],
    ) -> web.StreamResponse:
        if any(fields.get(name, "0") not in ("0", "") for name in ("compress", "decompress")):
            raise EngineError(
                "Code: 48. DB::Exception: compress=1 and decompress=1 (native blocks) are not served here: turn the "
                "driver's compression off, or use HTTP's Content-Encoding. (NOT_IMPLEMENTED)"
            )
        in_url = fields.get("query", "").encode()
        size = body.tell()
        body.seek(0)
        head = body.read(_HEAD)
        text = in_url + b"\n" + head if in_url and head else in_url or head
        statement = read_statement(text)
        if not statement.verb:
            raise EngineError("Code: 62. DB::Exception: Empty query. (SYNTAX_ERROR)")
        if statement.touches_files:
            raise EngineError("Code: 80. DB::Exception: INFILE and OUTFILE are not allowed. (INTO_OUTFILE_NOT_ALLOWED)")
        if statement.data_at is None and size > _HEAD:
            statement = read_statement(text + body.read())
        database = fields.get("database") or request.headers.get("X-ClickHouse-Database")
        settings = {k: v for k, v in fields.items() if k not in _NOT_SETTINGS and not k.startswith("param_")}
        params = {k.removeprefix("param_"): v for k, v in fields.items() if k.startswith("param_")}
        session = await self.call(lambda: self._engine.session(database, settings, read_only=request.method == "GET"))
        if statement.data_at is None and statement.verb != "INSERT":
            self._reading.add(session.tag)
        insertion: asyncio.Task[None] | None = None
        try:
            if statement.data_at is not None:
                pieces = _pieces(text[statement.data_at :], body)
                form = statement.format or "Values"
                # Once its rows are here an INSERT is finished, whether or not the client still waits for the answer.
                insertion = asyncio.create_task(self.call(partial(session.insert, statement.sql, form, pieces)))
                await asyncio.shield(insertion)
                return web.Response(headers={**headers, "X-ClickHouse-Summary": summary(session.stats)})
            return await self._result(request, fields, session, statement, params, headers)
        except asyncio.CancelledError:
            if insertion is None:
                await asyncio.to_thread(self._engine.kill, session.tag)
            else:
                with contextlib.suppress(EngineError):
                    await insertion
            raise
        finally:
            self._reading.discard(session.tag)
            await asyncio.shield(self.call(session.close))

    async def _result(
        self,
        request: web.Request,
        fields: Mapping[str, str],
        session: Session,
        statement: Statement,
        params: Mapping[str, str],
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """Answer with a statement's result: in one piece when it is small, else as it comes."""
        form = (
            statement.format
            or request.headers.get("X-ClickHouse-Format")
            or fields.get("default_format")
            or "TabSeparated"
        )
        pieces, has_result = await self.call(lambda: _begin(session, statement, form, params))
        if has_result:
            headers["X-ClickHouse-Format"] = form
            headers["Content-Type"] = content_type(form)
        first = await self.call(lambda: next(pieces, b""))
        second = await self.call(lambda: next(pieces, b""))
        encoding = choose_encoding(
            request.headers.get("Accept-Encoding", ""), enabled=fields.get("enable_http_compression", "0") == "1"
        )
        headers["X-ClickHouse-Summary"] = summary(session.stats)
        if not second and (encoding is None or len(first) < 1024):
            return web.Response(body=first, headers=headers)
        if encoding:
            headers["Content-Encoding"] = encoding
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        encoded = _encoded(itertools.chain((first, second), pieces), encoding)
        del first, second
        try:
            while piece := await self.call(lambda: next(encoded, b"")):
                await response.write(piece)
        except EngineError as error:
            # As the server does: the text ends with the exception, and is cut so that nobody takes it for whole.
            with contextlib.suppress(ConnectionError):
                await response.write(str(error).encode() if encoding is None else b"")
            if request.transport is not None:
                request.transport.close()
        except ConnectionError:
            log.info("client went away", query_id=headers["X-ClickHouse-Query-Id"])
        else:
            await response.write_eof()
        return response


def _encoded(pieces: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    """The pieces under a Content-Encoding; none of them empty."""
    if encoding is None:
        yield from filter(None, pieces)
        return
    encoder = Encoder(encoding)
    for piece in pieces:
        if out := encoder.feed(piece):
            yield out
    yield encoder.finish()


def _begin(
    session: Session, statement: Statement, form: str, params: Mapping[str, str]
) -> tuple[Iterator[bytes], bool]:
    """The result's pieces, and whether the statement is of a kind that has a result."""
    sql = statement.sql
    if not session.reads_only(sql):
        return iter((session.run(f"{sql} {statement.settings}".strip(), form, params),)), False
    if statement.selects and form.lower() in STREAMABLE:
        return session.stream(f"{sql} {statement.settings}".strip(), form, params), True
    if statement.selects:
        return session.export(sql, form, statement.settings, params), True
    return iter((session.run(f"{sql}\nFORMAT {form} {statement.settings}".strip(), form, params),)), True


def _pieces(first: bytes, rest: SpooledTemporaryFile[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    while piece := rest.read(_PIECE):
        yield piece


def _local(request: web.Request) -> bool:
    """No web page of another site made this browser ask (the engine can read files, and has no password)."""
    origin = request.headers.get("Origin")
    if origin and origin.split("://")[-1].rpartition(":")[0].lower() not in LOOPBACK:
        return False
    host = request.host.lower()
    return (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host) in LOOPBACK
