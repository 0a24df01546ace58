"""Where one SQL request ends and its data begin: just enough of ClickHouse's grammar to serve its HTTP interface.

The engine parses the SQL itself. What is needed before that is which format the answer has, and, for ``INSERT``, which
bytes of the request are rows and not SQL. Lexical rules follow ClickHouse's own lexer: quotes, comments, heredocs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import msgspec

_TOKEN = re.compile(
    rb"""
      (?P<space>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
    | (?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<semicolon>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(rb"\s*(\w+)")
_DATA_START = re.compile(rb"[ \t\r]*\n|\s*")

STREAMABLE = frozenset(
    name.lower()
    for name in (
        *("Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV"),
        *("JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow"),
    )
)
"""Formats without a beginning or an end of their own, so that pieces of a result can be joined as they come."""


class Statement(msgspec.Struct, frozen=True):
    """A request's text, taken apart.

    ``sql`` is the statement without its FORMAT clause and final semicolon, ``format`` that clause's format,
    ``settings`` the SETTINGS clause that followed it. ``data_at`` is the byte where rows begin, for an INSERT that
    brings rows. ``verb`` is the first word in capitals, ``(`` for a parenthesis, empty for nothing but comments.
    """

    verb: str
    sql: str
    format: str | None = None
    settings: str = ""
    data_at: int | None = None
    touches_files: bool = False
    """It names INFILE or OUTFILE: a client's job, refused by servers."""

    @property
    def selects(self) -> bool:
        """It is a SELECT in one of its spellings."""
        return self.verb in ("SELECT", "WITH", "FROM", "(")


def read_statement(text: bytes) -> Statement:
    """Take a request apart; ``text`` may go on with rows in any encoding.

    Never raises: what is not understood is left to the engine, which says what is wrong with it.
    """
    tokens = _top_level(text)
    first = next(tokens, None)
    if first is None:
        return Statement("", _text(text))
    verb = first.group().decode(errors="replace").upper()
    if verb == "INSERT":
        return _read_insert(text, tokens)
    previous = b""
    touches_files = False
    for token in tokens:
        word = token.group().upper()
        touches_files = touches_files or (word == b"OUTFILE" and previous == b"INTO")
        if word == b"FORMAT" and (found := _trailing_format(text, token.end())):
            name, settings = found
            return Statement(verb, _text(text[: token.start()]), name, settings, touches_files=touches_files)
        previous = word
    return Statement(verb, _text(text), touches_files=touches_files)


def _read_insert(text: bytes, tokens: Iterator[re.Match[bytes]]) -> Statement:
    """An INSERT: its rows begin after ``FORMAT name`` or ``VALUES``, unless it takes them from a SELECT."""
    target = list(itertools.islice(tokens, 2))  # INTO and the table's name, which may itself be "format" or "values"
    if len(target) < 2:
        return Statement("INSERT", _text(text))
    previous = b""
    touches_files = False
    for token in tokens:
        word = token.group().upper()
        sql = _text(text[: token.start()])
        if word in (b"SELECT", b"WITH", b"WATCH"):
            break
        touches_files = touches_files or (word == b"INFILE" and previous == b"FROM")
        if word == b"VALUES":
            return Statement("INSERT", sql, "Values", data_at=token.end(), touches_files=touches_files)
        if word == b"FORMAT" and (name := _NAME.match(text, token.end())):
            start = _DATA_START.match(text, name.end())
            at = start.end() if start else name.end()
            return Statement("INSERT", sql, name[1].decode(), data_at=at, touches_files=touches_files)
        previous = word
    return Statement("INSERT", _text(text), touches_files=touches_files)


def _top_level(text: bytes) -> Iterator[re.Match[bytes]]:
    """The tokens that stand in no parenthesis; an opening one stands for all that is within."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "close":
            depth -= 1
        elif kind == "open":
            depth += 1
            if depth == 1:
                yield match
        elif kind != "space" and depth == 0:
            yield match


def _trailing_format(text: bytes, at: int) -> tuple[str, str] | None:
    """The format named at ``at`` and the SETTINGS clause after it; None when FORMAT is a name here and no keyword."""
    name: bytes | None = None
    for match in _TOKEN.finditer(text, at):
        kind = match.lastgroup
        if kind == "space":
            continue
        if name is None:
            if kind != "word":
                return None
            name = match.group()
        elif kind == "semicolon":
            continue
        elif kind == "word" and match.group().upper() == b"SETTINGS":
            return name.decode(), _text(text[match.start() :])
        else:
            return None
    return (name.decode(), "") if name is not None else None


def _text(sql: bytes) -> str:
    """The SQL without blanks and semicolons at its end."""
    return sql.decode(errors="replace").rstrip("; \t\r\n")
