"""Jinja2's filters, each bounded in what it takes and makes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2.filters import FILTERS, do_join, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import markup_join, str_join
from jinja2.utils import pass_eval_context
from markupsafe import soft_str

from sluice.adapters.jinja.budget import Budget, Exhausted
from sluice.adapters.jinja.guards import narrow, replaced, width

LOOP = "bounded_loop"
CONCAT = "bounded_concat"
DROPPED = ("random", "pprint")
"""The same event must make the same mail, and what a variable looks like inside is not for mail."""


def guarded_filters(budget: Budget) -> dict[str, Callable[..., Any]]:
    """Jinja2's filters without :data:`DROPPED`, and the two that compiled templates use inside."""
    filters = {}
    for name, function in FILTERS.items():
        if name not in DROPPED:
            filters[name] = _bounded(function, _LOOKS.get(name), budget)
    filters["join"] = _bounded(_joining(budget), None, budget)
    filters[LOOP] = _loop(budget)
    filters[CONCAT] = _concat(budget)
    return filters


def _bounded(function: Callable[..., Any], look: Callable[..., None] | None, budget: Budget) -> Callable[..., Any]:
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    # wraps() also carries over the mark that says which context Jinja2 passes first.
    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget.check()
        for value in args[skip:]:
            budget.shown(value)
        if look is not None:
            look(budget, *args[skip:], **kwargs)
        result = function(*args, **kwargs)
        return budget.items(result) if isinstance(result, Iterator) else budget.value(result)

    return bounded


# The looks take the same arguments as the filters, under the same names.


def _center(budget: Budget, value: Any, width: Any = 80) -> None:
    _width(width)


def _indent(budget: Budget, value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> None:
    pad = len(width) if isinstance(width, str) else width
    _width(pad)
    budget.size(len(value) + str(value).count("\n") * pad)


def _batch(budget: Budget, value: Any, linecount: Any, fill_with: Any = None) -> None:
    _width(linecount)


def _slice(budget: Budget, value: Any, slices: Any, fill_with: Any = None) -> None:
    _width(slices)


def _format(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    narrow(soft_str(value))


def _replace(budget: Budget, s: Any, old: str, new: str, count: int | None = None) -> None:
    replaced(str(s), soft_str(old), soft_str(new), count, budget)


def _wordwrap(
    budget: Budget,
    s: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> None:
    budget.size(len(s) + len(wrapstring or "") * (s.count("\n") + 1 + 2 * len(s) // max(1, width)))


def _tojson(budget: Budget, value: Any, indent: int | None = None) -> None:
    if (indent or 0) > 8:
        raise Exhausted("pads something too wide")


def _round(budget: Budget, value: Any, precision: int = 0, method: str = "common") -> None:
    _width(abs(precision))


_width = width
_LOOKS: dict[str, Callable[..., None]] = {
    "center": _center,
    "indent": _indent,
    "batch": _batch,
    "slice": _slice,
    "format": _format,
    "replace": _replace,
    "wordwrap": _wordwrap,
    "tojson": _tojson,
    "round": _round,
}


def _loop(budget: Budget) -> Callable[[Iterable[Any]], Iterable[Any]]:
    def loop(iterable: Iterable[Any]) -> Iterable[Any]:
        for item in iterable:
            budget.step()
            yield item

    return loop


def _joining(budget: Budget) -> Callable[..., str]:
    @pass_eval_context
    def join(eval_context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = map(make_attrgetter(eval_context.environment, attribute), value)
        pieces = []
        size = 0
        for each in value:
            budget.step()
            piece = each if isinstance(each, str) or hasattr(each, "__html__") else str(budget.shown(each))
            size += len(d) + len(piece)
            budget.size(size)
            pieces.append(piece)
        joined: str = do_join(eval_context, pieces, d)
        return joined

    return join


def _concat(budget: Budget) -> Callable[..., str]:
    @pass_eval_context
    def concat(eval_context: EvalContext, values: tuple[Any, ...]) -> str:
        budget.check()
        texts = [value if isinstance(value, str) else soft_str(budget.shown(value)) for value in values]
        budget.size(sum(map(len, texts)))
        if eval_context.autoescape:
            return markup_join(
                value if hasattr(value, "__html__") else text for value, text in zip(values, texts, strict=True)
            )
        return str_join(texts)

    return concat
