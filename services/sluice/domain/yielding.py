"""How much of a worker's time goes to mail that is not urgent, by how busy the machine is while urgent mail comes."""

from __future__ import annotations

import msgspec

from sluice.domain.errors import RuleError


class Yielding(msgspec.Struct, frozen=True):
    """A share of time that is found by multiplicative decrease and additive increase, as TCP finds a window.

    Urgent mail goes from process to process, and at each waits for a processor. On a machine that is full of bulk that
    is most of its way; where some of the processors' time is left over, next to nothing.

    ``most`` is the share of the processors' time above which bulk gives way, down to the share ``least`` of composing:
    what makes a machine busy may have nothing to do with bulk. A look multiplies by ``cut`` when all of the time is in
    use, and adds ``gain`` when none is; in between by as much less as it is nearer to ``most``.
    """

    most: float = 0.85
    least: float = 0.05
    cut: float = 0.3
    gain: float = 0.2

    def __post_init__(self) -> None:
        if not (0 < self.most <= 1 and 0 < self.least <= 1 and 0 < self.cut < 1 and self.gain > 0):
            raise RuleError(f"not a way to yield: {self}")

    def next(self, share: float, busy: float, *, urgent: bool) -> float:
        """The share from now on, from ``least`` to 1.0, given the share of the processors' time in use since the last
        look.

        Everything, at once, when no ``urgent`` mail has come lately.
        """
        if not urgent:
            return 1.0
        if busy > self.most:
            share *= 1.0 - (1.0 - self.cut) * (busy - self.most) / (1.0 - self.most)
        else:
            share += self.gain * (self.most - busy) / self.most
        return min(1.0, max(self.least, share))
