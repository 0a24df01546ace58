"""Taking an HTTP request's text apart into statement, format and rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.embedded.clickhouse_statement import read_statement


@pytest.mark.parametrize(
    ("text", "sql", "form"),
    [
        (b"SELECT 1", "SELECT 1", None),
        (b"SELECT 1 ; ", "SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "SELECT 1", "JSON"),
        (b"select 1\nformat  CSV ;\n", "select 1", "CSV"),
        (b"SELECT 1 FORMAT TSV -- as text", "SELECT 1", "TSV"),
        (b"SELECT ' FORMAT JSON'", "SELECT ' FORMAT JSON'", None),
        (b"SELECT 1 -- FORMAT JSON", "SELECT 1 -- FORMAT JSON", None),
        (b"SELECT 1 /* FORMAT JSON */", "SELECT 1 /* FORMAT JSON */", None),
        (b"SELECT format FROM (SELECT 1 AS format)", "SELECT format FROM (SELECT 1 AS format)", None),
        (b"SELECT 'it''s \\' FORMAT JSON' FORMAT CSV", "SELECT 'it''s \\' FORMAT JSON'", "CSV"),
        (b"SELECT * FROM (SELECT 1 FORMAT JSON)", "SELECT * FROM (SELECT 1 FORMAT JSON)", None),
    ],
)
def test_the_format_clause_is_found_where_it_is_one(text: bytes, sql: str, form: str | None) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.format, statement.data_at) == (sql, form, None)


def test_settings_after_the_format_are_kept() -> None:
    statement = read_statement(b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1")
    assert (statement.sql, statement.format, statement.settings) == ("SELECT 1", "JSON", "SETTINGS max_threads = 1")


@pytest.mark.parametrize(
    ("text", "sql", "form", "rows"),
    [
        (b"INSERT INTO t FORMAT Native\n\n\x00", "INSERT INTO t", "Native", b"\n\x00"),
        (b'INSERT INTO t FORMAT JSONEachRow {"a":1}', "INSERT INTO t", "JSONEachRow", b'{"a":1}'),
        (b"INSERT INTO t (`format`) VALUES (1)", "INSERT INTO t (`format`)", "Values", b" (1)"),
        (b"INSERT INTO format FORMAT TSV\nx", "INSERT INTO format", "TSV", b"x"),
        (b"insert into a.b settings x=1 format CSV\r\n1", "insert into a.b settings x=1", "CSV", b"1"),
        (b"INSERT INTO t FORMAT Native", "INSERT INTO t", "Native", b""),
    ],
)
def test_rows_begin_after_the_format_of_an_insert(text: bytes, sql: str, form: str, rows: bytes) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.format) == (sql, form)
    assert text[statement.data_at :] == rows


@given(st.binary(max_size=200))
def test_rows_come_through_whatever_bytes_they_are(rows: bytes) -> None:
    text = b"INSERT INTO t (a, b) FORMAT RowBinary\n" + rows
    assert text[read_statement(text).data_at :] == rows


def test_an_insert_that_selects_brings_no_rows() -> None:
    assert read_statement(b"INSERT INTO t SELECT 1 AS x, 'FORMAT CSV'").data_at is None


@pytest.mark.parametrize("text", [b"SELECT 1 INTO OUTFILE 'x'", b"INSERT INTO t FROM INFILE 'x' FORMAT CSV"])
def test_files_of_the_server_are_noticed(text: bytes) -> None:
    assert read_statement(text).touches_files


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(text: bytes) -> None:
    read_statement(text)
