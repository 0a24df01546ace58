"""The embedded engine: chDB behind small blocking calls, one handle per request.

A handle is cheap to open (0.2 ms) and carries its own settings, database and temporary tables, so that requests cannot
reach into one another, as over a server's HTTP interface. Results and rows to insert pass in pieces: memory does not
grow with them.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: .*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SETTINGS = re.compile(r"\s(SETTINGS\s+\w+\s*=.*)$", re.DOTALL | re.IGNORECASE)


class EngineError(Exception):
    """The engine refused or could not finish a statement; ``code`` is ClickHouse's own number."""

    def __init__(self, message: str) -> None:
        found = _CODE.search(message)
        self.code = int(found[1]) if found else 1001
        super().__init__(found[0].strip() if found else f"Code: 1001. DB::Exception: {message.strip()}")


class Stats(msgspec.Struct, frozen=True):
    """What a statement read and wrote, in rows and bytes, and how long it took in seconds."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed: float = 0.0


class Session:
    """One request's handle; any thread may use it, one call at a time. ``tag`` finds its query again."""

    def __init__(self, handle: Any, tag: str, scratch: Path) -> None:
        self.tag = tag
        self._handle = handle
        self._scratch = scratch
        self._cursor: Any = None
        self._lock = threading.Lock()
        self.stats = Stats()

    def reads_only(self, sql: str) -> bool:
        """Whether the statement only reads. A statement that cannot be parsed does: the engine will say so."""
        return bool(self._handle._conn.classify_query(sql)["query_class"].name in ("READ_ONLY", "UNKNOWN"))  # noqa: SLF001 (the typed wrapper leaves it out)

    def run(self, sql: str, form: str, params: Mapping[str, str]) -> bytes:
        """Run a statement whose result is small; raises :class:`EngineError`."""
        with self._lock, translated():
            result = self._handle.query(sql, form, params=dict(params))
            self.stats = _stats(result)
            return bytes(result.bytes())

    def stream(self, sql: str, form: str, params: Mapping[str, str]) -> Iterator[bytes]:
        """Run a SELECT and yield its result in pieces, in a format that needs no head and no tail."""
        with self._lock, translated():
            self._cursor = self._handle.send_query(sql, form, params=dict(params))
        while True:
            with self._lock, translated():
                piece = self._cursor.fetch() if self._cursor is not None else None
            if piece is None:
                break
            self.stats = Stats(
                read_rows=self.stats.read_rows + piece.storage_rows_read(),
                read_bytes=self.stats.read_bytes + piece.storage_bytes_read(),
                result_rows=self.stats.result_rows + piece.rows_read(),
                elapsed=self.stats.elapsed + piece.elapsed(),
            )
            yield bytes(piece.bytes())
        self._cursor = None

    def export(self, sql: str, form: str, settings: str, params: Mapping[str, str]) -> Iterator[bytes]:
        """Run a SELECT in any format; the whole result passes through a file, which a head or a tail asks for."""
        path = self._scratch / uuid.uuid4().hex
        try:
            with self._lock, translated():
                result = self._handle.query(
                    f"{sql}\nINTO OUTFILE '{_escape(str(path))}' FORMAT {form} {settings}", form, params=dict(params)
                )
                self.stats = _stats(result)
            with path.open("rb") as file:
                while piece := file.read(1 << 18):
                    yield piece
        finally:
            path.unlink(missing_ok=True)

    def insert(self, sql: str, form: str, pieces: Iterable[bytes]) -> None:
        """Insert rows given as pieces of ``form``; nothing is kept of a part that fails to parse.

        Through a file: the engine's streaming insert reports what cannot be parsed, but takes for done what could not
        be written (a view's target that refuses, no memory, no space).
        """
        head, clause = _split_settings(sql)
        path = self._scratch / uuid.uuid4().hex
        try:
            with path.open("wb") as file:
                file.writelines(pieces)
            source = f"FROM INFILE '{_escape(str(path))}' COMPRESSION 'none' {clause} FORMAT {form}"
            with self._lock, translated():
                result = self._handle.query(f"{head} {source}", "TSV")
                self.stats = _stats(result)
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the handle back; a result that was not read to its end is given up."""
        with self._lock:
            cursor, self._cursor = self._cursor, None
            if cursor is not None:
                with contextlib.suppress(Exception):
                    cursor.close()
            self._handle.close()


class Engine:
    """One data folder. Only one process may have it open."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "store"
        self.scratch = folder / "scratch"
        # BACKUP … TO File('name') and RESTORE work below this folder, and nowhere else.
        self._place = f"{self._data}?backups.allowed_path={folder / 'backups'}"
        self._root: Any = None
        self._connect: Any = None
        self._lock = threading.Lock()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._defaults = {"max_memory_usage": str(memory // 2)}

    def open(self) -> str:
        """Load the engine and open the folder; tens of seconds at the first time. Returns the engine's version.

        Raises :class:`EngineError` when the folder cannot be opened, for instance because another process has it.
        """
        os.environ["TZ"] = "UTC"  # the engine takes its server time zone from here, once, when it is loaded
        self._data.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        for stale in self.scratch.iterdir():
            stale.unlink(missing_ok=True)
        import chdb  # 500 MB of library, so that the port can be bound and say "starting" before

        self._connect = chdb.connect
        with translated():
            self._root = self._connect(self._place)
            return str(self._root.query("SELECT version()", "TSV").bytes().decode().strip())

    def session(self, database: str | None, settings: Mapping[str, str], *, read_only: bool = False) -> Session:
        """A fresh handle with ``settings`` in force; raises :class:`EngineError` for unknown ones."""
        tag = uuid.uuid4().hex
        chosen = {**self._defaults, **settings, "log_comment": tag}
        for name in chosen:
            if not _NAME.fullmatch(name):
                raise EngineError(f"Code: 115. DB::Exception: Unknown setting '{name}'. (UNKNOWN_SETTING)")
        if read_only:
            chosen["readonly"] = "2"
        clause = ", ".join(f"{name} = '{_escape(value)}'" for name, value in chosen.items())
        with translated():
            with self._lock:
                handle = self._connect(self._place)
            try:
                if database:
                    handle.query(f"USE `{database.replace('`', '``')}`", "TSV")
                handle.query(f"SET {clause}", "TSV")
            except BaseException:
                handle.close()
                raise
        return Session(handle, tag, self.scratch)

    def kill(self, tag: str) -> None:
        """Stop the query of a session, from any thread."""
        with self._lock, contextlib.suppress(Exception):
            self._root.query(f"KILL QUERY WHERE Settings['log_comment'] = '{tag}' ASYNC", "TSV")

    def spool(self) -> tempfile.SpooledTemporaryFile[bytes]:
        """Where a request's body is kept until it is run: in memory up to 8 MB, then on disk."""
        return tempfile.SpooledTemporaryFile(max_size=8 << 20, dir=str(self.scratch))

    def close(self) -> None:
        """Close the folder: what was inserted is on disk."""
        root, self._root = self._root, None
        if root is not None:
            root.close()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """chDB's errors as :class:`EngineError`."""
    try:
        yield
    except EngineError:
        raise
    except (RuntimeError, ValueError) as error:
        raise EngineError(str(error)) from error
    except Exception as error:
        if type(error).__module__.startswith("chdb"):
            raise EngineError(str(error)) from error
        raise


def _split_settings(sql: str) -> tuple[str, str]:
    """An INSERT's head, and its SETTINGS clause: it stands before FORMAT, but after FROM INFILE."""
    match = _SETTINGS.search(sql)
    return (sql[: match.start()], match[1]) if match else (sql, "")


def _stats(result: Any) -> Stats:
    return Stats(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        elapsed=result.elapsed(),
    )


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
