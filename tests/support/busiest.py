"""How fast it was at its fastest."""

from __future__ import annotations

from collections.abc import Iterable


def busiest_second(times: Iterable[float]) -> int:
    """The most of ``times``, seconds, within any second."""
    ordered = sorted(times)
    most = start = 0
    for end, at in enumerate(ordered):
        while at >= ordered[start] + 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most
