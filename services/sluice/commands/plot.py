"""Bars in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 48
"""Characters of the longest bar."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LABEL = 60
_MOST_OF_ALL = 50
"""Above this many per cent a whole bar is 100 %; percentages that are all small are compared with the largest."""


def bars(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], value: str, unit: str, title: str) -> Table:
    """One bar for each row, its length ``value``; of several ``labels`` the first begins a group.

    All bars begin at zero, so that their lengths may be compared. Rows without a value have no bar.
    """
    from rich.table import Table
    from rich.text import Text

    numbers = [_number(row[value]) for row in rows]
    longest = max((number for number in numbers if number is not None), default=0.0)
    if unit == "%" and longest > _MOST_OF_ALL:
        longest = 100.0
    made = Table(
        title=f"{title}\n{value}" + (f", {unit}" if unit != "-" else ""),
        title_justify="left", box=None, show_header=False, pad_edge=False,
    )  # fmt: skip
    for justify in (*("left" for _ in labels), "left", "right"):
        made.add_column(justify=justify, no_wrap=True)  # type: ignore[arg-type]
    previous = None
    for row, number in zip(rows, numbers, strict=True):
        names = [str(row[label])[:_LABEL] for label in labels]
        first = names[0] if len(names) == 1 or names[0] != previous else ""
        previous = names[0]
        shown = "" if number is None else f"{number:,.4g}" if number < 1000 else f"{number:,.0f}"
        made.add_row(*(Text(name) for name in (first, *names[1:])), Text(bar(number or 0.0, longest), "cyan"), shown)
    return made


def bar(number: float, longest: float, width: int = WIDTH) -> str:
    """A bar of ``number`` out of ``longest``, to an eighth of a character; anything above nothing is seen."""
    if longest <= 0 or number <= 0:
        return ""
    eighths = max(1, min(width * 8, round(width * 8 * number / longest)))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
