"""How much of a worker's time goes to mail that is not urgent, by how late the worker is while urgent mail comes."""

from __future__ import annotations

import msgspec

from sluice.domain.errors import RuleError


class Yielding(msgspec.Struct, frozen=True):
    """Additive increase and multiplicative decrease of a share of time, as TCP has it of a window.

    Lateness is how much later than asked for a worker's loop comes round. A machine with room to spare comes round at
    once; one that is full of bulk does so late, whichever of its processes fills it.

    ``target`` is the lateness, in seconds, above which bulk gives way, down to the share ``least``: what makes a
    machine late may have nothing to do with bulk. Each look multiplies by ``cut`` or adds ``gain``.
    """

    target: float = 0.002
    least: float = 0.05
    cut: float = 0.7
    gain: float = 0.02

    def __post_init__(self) -> None:
        if not (self.target > 0 and 0 < self.least <= 1 and 0 < self.cut < 1 and self.gain > 0):
            raise RuleError(f"not a way to yield: {self}")

    def next(self, share: float, late: float, *, urgent: bool) -> float:
        """The share from now on, from ``least`` to 1.0, given the mean lateness since the last look, in seconds.

        Everything, at once, when no ``urgent`` mail has come lately.
        """
        if not urgent:
            return 1.0
        share = share * self.cut if late > self.target else share + self.gain
        return min(1.0, max(self.least, share))
