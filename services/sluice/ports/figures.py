"""What a metric is, and a figure of it.

Whoever has a figure gives it as a :class:`Figure`, when asked and not before: what is counted for each mail is counted
in plain numbers, and only looked at when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec

from sluice.domain.spread import Spread

Service = Literal["compose", "deliver", "wheel", "record"]
ALL: tuple[Service, ...] = ("compose", "deliver", "wheel", "record")
FAUST: tuple[Service, ...] = ("compose", "deliver")
READERS: tuple[Service, ...] = ("compose", "deliver", "wheel")
OTHER = "other"
"""Stands for all sites that the rules do not name: labels must stay few however many sites there are."""

_SUFFIXES = {"s": "_seconds", "By": "_bytes", "{mail}/s": "_per_second"}


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. ``unit`` as in UCUM: ``s``, ``By``, or what is counted in braces. ``label`` names are bounded sets.

    ``bounds`` are a histogram's, in its unit. Every figure has the label ``service`` besides.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    answers: str
    labels: tuple[str, ...] = ()
    services: tuple[Service, ...] = ALL
    bounds: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """Its name as Prometheus reads it; a histogram's without ``_bucket``, ``_sum`` and ``_count``."""
        name = self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == "counter" else name


class Figure(msgspec.Struct, frozen=True):
    """A metric's value for one set of labels, in the order of :attr:`Metric.labels`."""

    metric: Metric
    value: float | Spread
    labels: tuple[str, ...] = ()


class Figures(Protocol):
    """Whoever has figures to tell."""

    def figures(self) -> Iterable[Figure]:
        """All of them as they stand. Called a few times a minute; must not block."""
        ...


SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for what should take milliseconds, in seconds."""
