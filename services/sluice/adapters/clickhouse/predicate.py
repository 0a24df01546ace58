"""Conditions over outcomes as operators write them: what is allowed, and the SQL that is run for one.

The text is cut into tokens, and each of them has to be on a list: columns of ``outcomes``, functions that look at
nothing but their arguments, comparisons, values. So whatever else there is in SQL, or comes to be, is refused by name
and place, and no word is left that could name another table. The parser then makes sure that it is one expression: a
closing parenthesis too many would end the one that it is put into. What is run is written anew, with literals of our
own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from sqlglot import exp, parse_one, tokenize
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]  # re-exported without __all__

from sluice.adapters.clickhouse.queries import literal
from sluice.adapters.clickhouse.rows import OutcomeRow
from sluice.ports.redrive import PredicateRefused

LONGEST = 100_000
"""Characters of a predicate."""
MOST_TOKENS = 20_000
MOST_VALUES = 5_000
"""Of one IN list."""
DEEPEST = 50
"""Parentheses within parentheses."""

COLUMNS = frozenset(field.name for field in msgspec.structs.fields(OutcomeRow)) | {"recorded_at"}
FUNCTIONS = frozenset(
    (
        "now", "today", "yesterday", "toDate", "toDateTime", "toStartOfHour", "toStartOfDay", "toHour", "toDayOfWeek",
        "lower", "upper", "length", "startsWith", "endsWith", "match", "position", "empty", "notEmpty",
        "has", "hasAny", "hasAll", "mapContains",
    )
)  # fmt: skip
_UNITS = frozenset(("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH"))
_PLAIN = {
    TokenType.AND: "AND", TokenType.OR: "OR", TokenType.NOT: "NOT", TokenType.IN: "IN", TokenType.LIKE: "LIKE",
    TokenType.ILIKE: "ILIKE", TokenType.BETWEEN: "BETWEEN", TokenType.IS: "IS", TokenType.NULL: "NULL",
    TokenType.TRUE: "true", TokenType.FALSE: "false", TokenType.INTERVAL: "INTERVAL",
    TokenType.EQ: "=", TokenType.NEQ: "!=", TokenType.LT: "<", TokenType.LTE: "<=", TokenType.GT: ">",
    TokenType.GTE: ">=", TokenType.PLUS: "+", TokenType.DASH: "-",
    TokenType.L_PAREN: "(", TokenType.R_PAREN: ")", TokenType.L_BRACKET: "[", TokenType.R_BRACKET: "]",
    TokenType.COMMA: ",",
}  # fmt: skip
_NUMBER = re.compile(r"\d{1,18}(?:\.\d{1,18})?")
_COMMENT = re.compile(r"--|/\*|#|//")
_CONDITIONS = (exp.Condition, exp.Paren, exp.Predicate, exp.Not, exp.Anonymous, exp.Func)


def checked(text: str) -> str:
    """The condition as SQL that reads nothing but the row it is asked of.

    Raises :class:`PredicateRefused` with the line and column of what is not allowed.
    """
    if not text.strip():
        raise PredicateRefused("the predicate is empty; to select all, say true")
    if len(text) > LONGEST:
        raise PredicateRefused(f"the predicate has {len(text):,} characters; at most {LONGEST:,} are allowed")
    tokens = _tokens(text)
    _no_comments(text, tokens)
    _check_lists(tokens)
    written = [_written(tokens, number) for number in range(len(tokens))]
    _check_nesting(tokens)
    _check_one_expression(text)
    return " ".join(written)


def _tokens(text: str) -> list[Token]:
    try:
        tokens = list(tokenize(text, dialect="clickhouse"))
    except SqlglotError as error:
        raise PredicateRefused(f"the predicate cannot be read: {_first_line(error)}") from error
    if len(tokens) > MOST_TOKENS:
        raise PredicateRefused(
            f"the predicate has {len(tokens):,} words and signs; at most {MOST_TOKENS:,} are allowed"
        )
    if not tokens:
        raise PredicateRefused("the predicate is empty; to select all, say true")
    return tokens


def _no_comments(text: str, tokens: Sequence[Token]) -> None:
    """Between tokens there may be nothing but blanks: what no token stands for would be read differently elsewhere."""
    after = 0
    for token in tokens:
        _no_comment(text, after, token.start)
        after = token.end + 1
    _no_comment(text, after, len(text))


def _no_comment(text: str, start: int, end: int) -> None:
    between = text[start:end]
    if between.strip():
        what = "a comment" if _COMMENT.search(between) else repr(between.strip()[:20])
        place = start + len(between) - len(between.lstrip())
        raise PredicateRefused(f"{what} is not allowed, at {_at(text, place)}")


def _written(tokens: Sequence[Token], number: int) -> str:
    token = tokens[number]
    kind = token.token_type
    if kind is TokenType.STRING:
        return literal(token.text)
    if kind is TokenType.NUMBER:
        if not _NUMBER.fullmatch(token.text):
            raise _refused(token, f"{token.text!r} is no plain number")
        return token.text
    return _PLAIN.get(kind) or _named(tokens, number)


def _named(tokens: Sequence[Token], number: int) -> str:
    """A column, a function or a unit of time."""
    token = tokens[number]
    following = tokens[number + 1].token_type if number + 1 < len(tokens) else None
    name = token.text
    if token.end - token.start + 1 == len(name) and name.isidentifier() and name.isascii():
        if following is TokenType.L_PAREN:
            if name in FUNCTIONS:
                return name
            raise _refused(token, f"the function {name!r} is not allowed; there are {', '.join(sorted(FUNCTIONS))}")
        if name in COLUMNS:
            return name
        if name.upper() in _UNITS and number > 1 and tokens[number - 2].token_type is TokenType.INTERVAL:
            return name.upper()
    if token.token_type is TokenType.VAR:
        raise _refused(token, f"outcomes have no column {name!r}")
    raise _refused(token, f"{name!r} is not allowed in a predicate")


def _check_nesting(tokens: Sequence[Token]) -> None:
    depth = 0
    for token in tokens:
        if token.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET):
            depth += 1
            if depth > DEEPEST:
                raise _refused(token, f"more than {DEEPEST} parentheses within one another")
        elif token.token_type in (TokenType.R_PAREN, TokenType.R_BRACKET):
            depth -= 1
            if depth < 0:
                raise _refused(token, "closes what was not opened")
        elif token.token_type is TokenType.COMMA and not depth:
            raise _refused(token, "a comma outside of parentheses: one condition, joined by AND and OR")
    if depth:
        raise _refused(tokens[-1], "something that was opened is not closed before the end")


def _check_lists(tokens: Sequence[Token]) -> None:
    """What follows IN is values: of a single name ClickHouse would make a table."""
    values = (TokenType.STRING, TokenType.NUMBER, TokenType.COMMA, TokenType.DASH)
    for number, token in enumerate(tokens):
        if token.token_type is not TokenType.IN:
            continue
        if number + 1 == len(tokens) or tokens[number + 1].token_type is not TokenType.L_PAREN:
            raise _refused(token, "IN needs a list of values in parentheses")
        count = 0
        for inner in tokens[number + 2 :]:
            if inner.token_type is TokenType.R_PAREN:
                break
            if inner.token_type not in values:
                raise _refused(inner, f"{inner.text!r}: a list after IN holds texts and numbers only")
            count += inner.token_type is not TokenType.COMMA
            if count > MOST_VALUES:
                raise _refused(inner, f"a list after IN may hold {MOST_VALUES:,} values")
        if not count:
            raise _refused(token, "the list after IN is empty")


def _check_one_expression(text: str) -> None:
    try:
        tree = parse_one(text, dialect="clickhouse")
    except SqlglotError as error:
        raise PredicateRefused(f"the predicate is no condition: {_first_line(error)}") from error
    except RecursionError as error:
        raise PredicateRefused("the predicate is nested too deeply") from error
    if not isinstance(tree, _CONDITIONS) or tree.find(exp.Query, exp.Table, exp.Alias, exp.Lambda) is not None:
        raise PredicateRefused("the predicate is no condition: write one such as event_type = 'bounced'")


def _refused(token: Token, what: str) -> PredicateRefused:
    column = token.col - (token.end - token.start)
    return PredicateRefused(f"{what}, at line {token.line}, column {column}")


def _at(text: str, place: int) -> str:
    line = text.count("\n", 0, place) + 1
    return f"line {line}, column {place - (text.rfind(chr(10), 0, place) + 1) + 1}"


def _first_line(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().split("\n", 1)[0][:300]
