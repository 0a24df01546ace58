"""Operators and methods in templates, with a look at what they would make before they make it.

A sandbox is not a resource limit: ``{{ 'a' * 10**9 }}`` touches no forbidden attribute.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from sluice.adapters.jinja.budget import MAX_BITS, MAX_ITEMS, Budget, Exhausted

MAX_WIDTH = 1_000
"""Widest padding, in characters, that a filter or a format may ask for."""

_wide = re.compile(r"\*|[0-9]{4}")

STR_METHODS = frozenset(
    (
        "capitalize",
        "casefold",
        "center",
        "count",
        "endswith",
        "find",
        "format",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "join",
        "ljust",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "zfill",
    )
)
"""Attributes of strings that templates may use; ``encode``, ``translate`` and ``expandtabs`` are of no use there."""


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    """``left * right``."""
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
            length = len(sequence) * max(times, 0)
            if length > (budget.max_text if isinstance(sequence, str) else MAX_ITEMS):
                raise Exhausted("made something too long by multiplication")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise Exhausted("made a number that is too large")
    return budget.value(operator.mul(left, right))


def power(left: Any, right: Any, budget: Budget) -> Any:
    """``left ** right``."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise Exhausted("made a number that is too large")
    return budget.value(operator.pow(left, right))


def add(left: Any, right: Any, budget: Budget) -> Any:
    """``left + right``."""
    return budget.value(operator.add(left, right))


def modulo(left: Any, right: Any, budget: Budget) -> Any:
    """``left % right``, which for strings is formatting."""
    if isinstance(left, str):
        narrow(left)
        budget.shown(right)
    return budget.value(operator.mod(left, right))


BINARY: dict[str, Callable[[Any, Any, Budget], Any]] = {"*": multiply, "**": power, "+": add, "%": modulo}


def narrow(template: str) -> None:
    """Refuse a format (printf or ``format``'s) with a width or precision of four digits, or taken from a value."""
    if _wide.search(template):
        raise Exhausted("formats something too wide")


def width(value: Any) -> None:
    """Refuse padding that is too wide."""
    if isinstance(value, int) and value > MAX_WIDTH:
        raise Exhausted("pads something too wide")


def replaced(text: str, old: str, new: str, count: int | None, budget: Budget) -> None:
    """Refuse a replacement whose result would be too long."""
    found = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    budget.size(len(text) + found * max(0, len(new) - len(old)))


def joined(separator: str, values: list[Any], budget: Budget) -> None:
    """Refuse a join whose result would be too long."""
    budget.size(sum(len(value) if isinstance(value, str) else 20 for value in values) + len(separator) * len(values))


def method(name: str, owner: str, args: tuple[Any, ...], budget: Budget) -> None:
    """Look at a call of a string's method before it is made."""
    if name in ("center", "ljust", "rjust", "zfill") and args:
        width(args[0])
    elif name == "replace" and len(args) > 1:
        replaced(owner, args[0], args[1], args[2] if len(args) > 2 else None, budget)
    elif name == "join" and args:
        joined(owner, list(args[0]), budget)
