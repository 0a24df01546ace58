"""A connection to ClickHouse over HTTP, opened when first needed and again after it was lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error, OperationalError

from sluice.domain.errors import SluiceError


class ClickHouseAway(SluiceError):
    """ClickHouse cannot be reached, or is too busy to answer; trying again later is the thing to do."""


class ClickHouseRefused(SluiceError):
    """ClickHouse understood and said no; ``code`` is its error number (60: no such table), None when it gave none."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


_PASSING = frozenset((3, 159, 202, 203, 209, 210, 236, 241, 242, 243, 252, 279, 319, 394, 425, 999))
"""Error codes that pass by themselves: time-outs, memory, too many parts or queries, no space, no quorum, keeper."""


class Target(msgspec.Struct, frozen=True):
    """Where ClickHouse is.

    ``url`` is ``http[s]://host[:port]``; ``database`` holds Sluice's tables.
    """

    url: str
    database: str = "sluice"
    user: str = "default"
    password: str = ""
    connect_timeout: int = 5
    """Seconds."""
    timeout: int = 60
    """Seconds that one statement may take."""
    cafile: str | None = None
    """CA certificates for https; None for the system's."""
    compress: bool = False
    """Compress requests and responses; worth it when ClickHouse is not on this machine."""

    def __repr__(self) -> str:
        return f"Target({self.shown}, {self.database})"

    @property
    def shown(self) -> str:
        """The address, for messages: never with user or password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or (8443 if parts.scheme == 'https' else 8123)}"


class ClickHouse:
    """A client that any thread may use. Its methods block; their errors are ClickHouseAway and ClickHouseRefused."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._client: Client | None = None

    @property
    def database(self) -> str:
        """Name of the database that holds Sluice's tables."""
        return self.target.database

    def command(self, sql: str, settings: Mapping[str, Any] | None = None) -> None:
        """Run a statement that has no result."""
        self._call(lambda client: client.command(sql, settings=dict(settings or {})))

    def rows(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run a query; its rows by column name."""
        result = self._call(
            lambda client: client.query(sql, parameters=dict(parameters or {}), settings=dict(settings or {}))
        )
        return list(result.named_results())

    def export(
        self,
        sql: str,
        form: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Run a query; its whole result in one of ClickHouse's formats."""
        answer = self._call(
            lambda client: client.raw_query(
                sql, fmt=form, parameters=dict(parameters or {}), settings=dict(settings or {})
            )
        )
        return bytes(answer)

    def insert(self, table: str, rows: bytes, form: str, settings: Mapping[str, Any]) -> None:
        """Insert rows that are already in one of ClickHouse's formats."""
        compression = "lz4" if self.target.compress else None
        if compression:
            import lz4.frame  # type: ignore[import-untyped]  # comes with clickhouse-connect

            rows = lz4.frame.compress(rows)
        self._call(
            lambda client: client.raw_insert(
                table, insert_block=rows, fmt=form, settings=dict(settings), compression=compression
            )
        )

    def version(self) -> str:
        """The server's version."""
        return str(self._call(lambda client: client.server_version))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _call(self, work: Any) -> Any:
        try:
            return work(self._connected())
        except OperationalError as error:
            raise ClickHouseAway(f"{self.target.shown}: {_short(error)}") from error
        except DatabaseError as error:
            if error.code in _PASSING:
                raise ClickHouseAway(f"{self.target.shown}: {_short(error)}") from error
            raise ClickHouseRefused(f"{self.target.shown}: {_short(error)}", error.code) from error
        except Error as error:
            raise ClickHouseRefused(f"{self.target.shown}: {_short(error)}", None) from error

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> Client:
        parts = urlsplit(self.target.url)
        return clickhouse_connect.get_client(
            interface=parts.scheme or "http",
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=self.target.user,
            password=self.target.password,
            connect_timeout=self.target.connect_timeout,
            send_receive_timeout=self.target.timeout,
            ca_cert=self.target.cafile,
            compress=self.target.compress,
            tz_mode="aware",
            query_limit=0,
            query_retries=0,
            autogenerate_session_id=False,  # statements of several threads would wait for one another in one session
            show_clickhouse_errors="scrub",
        )


def _short(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500] or type(error).__name__
