"""Reading figures as a service tells them."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.domain.spread import Spread
from sluice.ports.metrics import Figure

Found = dict[tuple[str, ...], float]


def by_labels(figures: Iterable[Figure], name: str) -> Found:
    """The values of one metric by their labels."""
    return {
        figure.labels: sum(figure.value.counts) if isinstance(figure.value, Spread) else figure.value
        for figure in figures
        if figure.metric.name == name
    }
