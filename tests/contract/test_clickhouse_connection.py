"""What a ClickHouse server sees of us: who we say we are, and whether we believe its certificate."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from sluice.adapters.clickhouse.client import ClickHouseAway
from sluice.domain.errors import SluiceError
from sluice.runtime import console, wiring
from sluice.runtime.config import Settings


class Guarded:
    """A server over TLS that notes who comes and lets nobody in."""

    def __init__(self, authority: trustme.CA) -> None:
        self.callers: list[str] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                credentials = self.headers.get("Authorization", "").removeprefix("Basic ")
                outer.callers.append(base64.b64decode(credentials).decode())
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                """Nothing to standard error."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Guarded]:
    made = Guarded(authority)
    yield made
    made.close()


def ask_as_a_service(settings: Settings) -> None:
    wiring.clickhouse(settings).version()


def ask_as_a_command(settings: Settings) -> None:
    with console.clickhouse(settings) as store:
        store.version()


either = pytest.mark.parametrize("ask", [ask_as_a_service, ask_as_a_command])


@either
def test_services_and_commands_come_as_the_user_that_is_set(
    ask: Any, server: Guarded, authority: trustme.CA, tmp_path: Path
) -> None:
    """A password with signs that mean something in a URL included."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = Settings(
        clickhouse_url=server.url,
        clickhouse_user="sluice",
        clickhouse_password="p@ss:w/rd",
        clickhouse_ssl_cafile=tmp_path / "ca.pem",
    )
    with pytest.raises(SluiceError):
        ask(settings)
    assert set(server.callers) == {"sluice:p@ss:w/rd"}


@either
def test_a_server_whose_authority_is_not_known_is_told_nothing(ask: Any, server: Guarded) -> None:
    """It counts as away: nothing that is waiting may be lost for a certificate."""
    settings = Settings(clickhouse_url=server.url, clickhouse_user="sluice", clickhouse_password="secret")
    with pytest.raises(ClickHouseAway):
        ask(settings)
    assert server.callers == []
