"""A row of numbers as a line of eight heights."""

from __future__ import annotations

from collections.abc import Sequence

_HEIGHTS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], highest: float | None = None) -> str:
    """One character for each value, from nothing to ``highest`` (by default the largest); a blank where none is known.

    Nothing at all has the lowest height, and whatever is more than nothing has at least the second.
    """
    top = max((value for value in values if value is not None), default=0.0) if highest is None else highest
    return "".join(" " if value is None else _HEIGHTS[_height(value, top)] for value in values)


def _height(value: float, top: float) -> int:
    if value <= 0 or top <= 0:
        return 0
    return min(len(_HEIGHTS) - 1, max(1, round(value / top * (len(_HEIGHTS) - 1))))
