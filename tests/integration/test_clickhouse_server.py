"""The embedded ClickHouse, spoken to as a server: by clickhouse-connect, by bare HTTP, and by curl."""

import contextlib
import gzip
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from sluice.adapters.embedded.clickhouse_process import ClickHouseNotReady, EmbeddedClickHouse
from sluice.adapters.embedded.ports import PortTaken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedClickHouse) -> Iterator[Client]:
    connected = clickhouse_connect.get_client(host="127.0.0.1", port=server.port)
    connected.command("CREATE OR REPLACE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    yield connected
    connected.close()


def ask(
    server: EmbeddedClickHouse,
    body: bytes = b"",
    method: str = "POST",
    *,
    headers: dict[str, str] | None = None,
    **params: str,
) -> tuple[int, dict[str, str], bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, "/?" + urlencode(params), body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def memory_mb(server: EmbeddedClickHouse) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * 4 // 1024


def test_clickhouse_connect_queries_and_inserts(client: Client) -> None:
    client.insert("t", [[n, f"x{n}"] for n in range(1000)], column_names=["a", "b"])
    assert client.query("SELECT sum(a), max(b) FROM t").result_rows == [(499500, "x999")]
    assert client.command("SELECT count() FROM t") == 1000
    assert client.query("SELECT a FROM t WHERE 0").result_rows == []
    assert list(client.query("SELECT a, b FROM t LIMIT 0").column_names) == ["a", "b"]


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_compression_both_ways(server: EmbeddedClickHouse, client: Client, compress: str | bool) -> None:
    other = clickhouse_connect.get_client(host="127.0.0.1", port=server.port, compress=compress)
    rows = [[n, "some text " * 5] for n in range(100_000)]
    other.insert("t", rows, column_names=["a", "b"])
    assert other.query("SELECT * FROM t ORDER BY a").result_rows == [tuple(row) for row in rows]


def test_settings_hold_for_one_insert_only(client: Client) -> None:
    client.command(
        "CREATE OR REPLACE TABLE once (a UInt64) ENGINE = MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 10"
    )
    for token in ("one", "one", "two"):
        client.insert("once", [[1], [2]], column_names=["a"], settings={"insert_deduplication_token": token})
    assert client.command("SELECT count() FROM once") == 4
    assert client.query("SELECT getSetting('insert_deduplication_token')").result_rows == [("",)]


def test_parameters_are_bound(client: Client) -> None:
    text = "it's \\ a\ttab\nand {braces}"
    found = client.query("SELECT {n:UInt32} + 1, {s:String}", parameters={"n": 41, "s": text})
    assert found.result_rows == [(42, text)]


def test_many_parameters_come_as_a_form(client: Client) -> None:
    names = [f"name-{n}" for n in range(5000)]
    found = client.query("SELECT length({names:Array(String)})", parameters={"names": names})
    assert found.result_rows == [(5000,)]


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELEKT 1", 62, 400),
        ("SELECT nope", 47, 404),
        ("SELECT * FROM nope", 60, 404),
        ("SELECT * FROM nope.nope", 81, 404),
        ("SELECT 1; SELECT 2", 62, 400),
        ("", 62, 400),
        ("-- nothing", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT 1 INTO OUTFILE '/tmp/nobody-wants-this'", 80, 500),
        ("INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString", 80, 500),
        ("INSERT INTO nope FORMAT CSV\n1", 60, 404),
        ("INSERT INTO t FORMAT JSONEachRow\n{nonsense}", 26, 400),
    ],
)
def test_bad_sql_is_told_as_the_server_tells_it(
    server: EmbeddedClickHouse, client: Client, sql: str, code: int, status: int
) -> None:
    found, headers, body = ask(server, sql.encode())
    assert found == status, body
    assert body.startswith(b"Code: ")
    assert headers["X-ClickHouse-Exception-Code"] == str(code)
    assert b"DB::Exception" in body
    assert client.command("SELECT 1") == 1


def test_an_insert_that_fails_leaves_nothing(server: EmbeddedClickHouse, client: Client) -> None:
    rows = b"".join(b'{"a":%d}\n' % n for n in range(5000)) + b'{"a":"x"}\n'
    assert ask(server, b"INSERT INTO t FORMAT JSONEachRow\n" + rows)[0] == 400
    assert client.command("SELECT count() FROM t") == 0


def test_an_insert_that_cannot_be_written_is_told(server: EmbeddedClickHouse, client: Client) -> None:
    client.command(
        "CREATE OR REPLACE TABLE taken (a UInt64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a"
    )
    client.command("DROP VIEW IF EXISTS t_to_taken")
    client.command("CREATE MATERIALIZED VIEW t_to_taken TO taken AS SELECT a FROM t")
    try:
        for table in ("taken", "t"):
            status, headers, body = ask(server, b"INSERT INTO %s (a) FORMAT TSV\n5\n50\n" % table.encode())
            assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "469"), body
            assert client.command("SELECT count() FROM taken") == 0
    finally:
        client.command("DROP VIEW t_to_taken")


def test_an_insert_of_no_rows_inserts_none(server: EmbeddedClickHouse, client: Client) -> None:
    for form in ("TSV", "JSONEachRow", "Native"):
        assert ask(server, f"INSERT INTO t SETTINGS insert_deduplicate = 1 FORMAT {form}\n".encode())[0] == 200
    assert client.command("SELECT count() FROM t") == 0


@pytest.mark.parametrize("encoding", ["gzip", "lz4", "zstd", "identity"])
def test_rows_in_the_body_and_the_statement_in_the_address(
    server: EmbeddedClickHouse, client: Client, encoding: str
) -> None:
    rows = b"1\tone\n2\ttwo\n" * 1000
    packed = {"gzip": gzip.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress, "identity": bytes}[encoding](
        rows
    )
    status, headers, _ = ask(server, packed, query="INSERT INTO t FORMAT TSV", headers={"Content-Encoding": encoding})
    assert status == 200
    assert json.loads(headers["X-ClickHouse-Summary"])["written_rows"] == "2000"
    assert client.command("SELECT count() FROM t") == 2000


def test_a_body_that_is_not_of_its_encoding_is_refused(server: EmbeddedClickHouse) -> None:
    assert ask(server, b"not gzip at all", headers={"Content-Encoding": "gzip"})[0] == 400
    assert ask(server, b"SELECT 1", headers={"Content-Encoding": "rot13"})[0] == 400


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("JSONCompact", None),
        ("CSVWithNames", b'"a"\n0\n1\n'),
        ("TSV", b"0\n1\n"),
        ("Vertical", b"Row 1:"),
    ],
)
def test_formats_with_head_and_tail(server: EmbeddedClickHouse, form: str, expected: bytes | None) -> None:
    for params in ({"query": f"SELECT number AS a FROM numbers(2) FORMAT {form}"}, {"default_format": form}):
        body = b"" if "query" in params else b"SELECT number AS a FROM numbers(2)"
        status, headers, answer = ask(server, body, **params)
        assert status == 200
        assert headers["X-ClickHouse-Format"] == form
        assert json.loads(answer)["data"] == [[0], [1]] if expected is None else answer.startswith(expected)


@pytest.mark.parametrize(("form", "head"), [("TSV", 0), ("CSVWithNames", 1)])
def test_a_gigabyte_is_answered_whole_in_little_memory(server: EmbeddedClickHouse, form: str, head: int) -> None:
    before = peak = memory_mb(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/", body=f"SELECT number, repeat('x', 200) FROM numbers(5000000) FORMAT {form}")
    response = connection.getresponse()
    lines = 0
    while piece := response.read(1 << 20):
        lines += piece.count(b"\n")
        peak = max(peak, memory_mb(server))
    connection.close()
    assert lines == 5_000_000 + head
    assert peak - before < 500


def test_an_error_in_the_middle_of_a_result_breaks_it_off(server: EmbeddedClickHouse) -> None:
    sql = b"SELECT throwIf(number = 3000000), repeat('x', 50) FROM numbers(4000000)"
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(server, sql)
    assert ask(server, b"SELECT 1")[2] == b"1\n"


def test_a_client_that_goes_away_stops_its_query(server: EmbeddedClickHouse, client: Client) -> None:
    for sql in (
        b"SELECT number FROM system.numbers",
        b"SELECT count() FROM system.numbers WHERE sipHash64(number) = 1",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as wire:
            wire.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
            wire.settimeout(1)
            with contextlib.suppress(TimeoutError):
                wire.recv(100)
        running = (
            "SELECT count() FROM system.processes WHERE query LIKE '%system.numbers%' AND query NOT LIKE '%processes%'"
        )
        deadline = time.monotonic() + 10
        while client.command(running) != 0:
            assert time.monotonic() < deadline, "the query still runs"
            time.sleep(0.05)


def test_several_clients_at_once(server: EmbeddedClickHouse, client: Client) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = clickhouse_connect.get_client(host="127.0.0.1", port=server.port)
            for turn in range(5):
                own.insert("t", [[number, str(turn)]] * 100, column_names=["a", "b"])
                with pytest.raises(ClickHouseError):
                    own.query("SELECT nope FROM t")
                assert own.command(f"SELECT count() FROM t WHERE a = {number}") == (turn + 1) * 100
            own.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert client.command("SELECT count() FROM t") == 3000


def test_a_get_reads_only(server: EmbeddedClickHouse, client: Client) -> None:
    assert ask(server, method="GET", query="SELECT 1")[2] == b"1\n"
    for sql in ("INSERT INTO t VALUES (1, '')", "DROP TABLE t", "CREATE TABLE u (a Int8) ENGINE = Memory"):
        status, headers, _ = ask(server, method="GET", query=sql)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    assert client.command("SELECT count() FROM t") == 0


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}])
def test_web_pages_of_others_are_not_served(server: EmbeddedClickHouse, headers: dict[str, str]) -> None:
    assert ask(server, b"SELECT 1", headers=headers)[0] == 403


def test_native_block_compression_is_refused_with_a_way_out(server: EmbeddedClickHouse) -> None:
    status, _, body = ask(server, b"SELECT 1", compress="1")
    assert status == 501
    assert b"Content-Encoding" in body


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: EmbeddedClickHouse) -> None:
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--compressed",
            f"{server.url}/?enable_http_compression=1",
            "-d",
            "SELECT 6 * 7, version() != ''",
        ],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == b"42\t1\n"
    done = subprocess.run(["curl", "-sS", f"{server.url}/ping"], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"Ok.\n"


def test_tables_survive_a_stop_and_a_crash(tmp_path: Path) -> None:
    server = EmbeddedClickHouse.on_free_port(tmp_path)
    server.start()
    assert ask(server, b"CREATE TABLE kept (a Int64) ENGINE = MergeTree ORDER BY a")[0] == 200
    assert ask(server, b"INSERT INTO kept VALUES (1), (2)")[0] == 200
    assert server.stop() == 0
    server.start()
    assert ask(server, b"INSERT INTO kept VALUES (3)")[0] == 200
    server.kill()
    server.start()
    assert ask(server, b"SELECT sum(a) FROM kept")[2] == b"6\n"
    server.stop()


def test_a_stop_does_not_wait_for_long_queries(tmp_path: Path) -> None:
    server = EmbeddedClickHouse.on_free_port(tmp_path)
    server.start()
    sql = b"SELECT count() FROM system.numbers WHERE sipHash64(number) = 1"
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
        time.sleep(0.3)
        began = time.monotonic()
        assert server.stop(25) == 0
        assert time.monotonic() - began < 15


def test_a_taken_port_and_a_taken_folder_are_named(server: EmbeddedClickHouse) -> None:
    with pytest.raises(PortTaken, match=str(server.port)):
        EmbeddedClickHouse(server.data / "other", server.port).start()
    with pytest.raises(ClickHouseNotReady, match="cannot open its folder"):
        EmbeddedClickHouse.on_free_port(server.data).start()
