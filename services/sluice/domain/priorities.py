"""How connections are shared among priorities: turns by weight, and a reserve for the highest."""

from __future__ import annotations

import re

import msgspec

from sluice.domain.errors import RuleError
from sluice.domain.shaping import PRIORITY_WEIGHTS

_weights = re.compile(r"^([1-9]\d{0,3}):([1-9]\d{0,3}):([1-9]\d{0,3})$")


class Priorities(msgspec.Struct, frozen=True):
    """``weights`` of high, normal and bulk; ``reserve`` is the part of all connections, from 0.0 up to below 1.0, that
    mail of other priorities never takes."""

    weights: tuple[int, ...] = PRIORITY_WEIGHTS
    reserve: float = 0.1

    @classmethod
    def parse(cls, weights: str, reserve: float = 0.1) -> Priorities:
        """Read weights written ``16:4:1``, high first. Raises :class:`RuleError`."""
        match = _weights.match(weights.replace(" ", ""))
        if not match:
            raise RuleError(f"not weights: {weights!r}; write those of high, normal and bulk, from 1 to 9999: 16:4:1")
        if not 0.0 <= reserve < 1.0:
            raise RuleError(f"a reserve of {reserve:g} leaves nothing for others; give a part from 0 up to below 1")
        return cls(tuple(int(each) for each in match.groups()), reserve)

    def reserved(self, connections: int) -> int:
        """How many of ``connections`` are kept for high: at least one of two or more, and never all.

        A single connection is shared by turns: nobody may be shut out for good.
        """
        if not self.reserve or connections < 2:
            return 0
        return min(connections - 1, max(1, round(connections * self.reserve)))

    def __str__(self) -> str:
        return ":".join(map(str, self.weights))
