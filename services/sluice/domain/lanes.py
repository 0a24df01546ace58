"""What a lane's owner knows beyond the rules, so that the next owner need not learn it again."""

from __future__ import annotations

import msgspec

from sluice.domain.adaptive import Pressure

FOREVER = 253_402_300_799.0
"""The last second of the year 9999: until somebody resumes."""


class LaneState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lane at one moment; times in seconds since the epoch, 0.0 for never.

    ``penalised`` are egresses whose reputation the site blames, and until when; ``penalised_until`` is the latest end.
    ``triggered`` are the triggers in force: id, subject (a tenant, a campaign, an egress, or empty), and until when.
    ``paused_until`` and ``paused_why`` come from replies and failed connections; an operator's suspension is kept as
    reference data, not here. The first fields travel in checkpoints; ``queued``, ``connections``, ``rate``, ``node``
    and ``rules`` (their version) are for whoever looks.
    """

    pressure: Pressure = Pressure()
    penalised_until: float = 0.0
    paused_until: float = 0.0
    paused_why: str = ""
    failed_connects: int = 0
    penalised: tuple[tuple[str, float], ...] = ()
    triggered: tuple[tuple[str, str, float], ...] = ()
    queued: int = 0
    connections: int = 0
    rate: str = ""
    node: str = ""
    rules: str = ""

    @property
    def learnt(self) -> bool:
        """Whether there is anything that the rules do not say already."""
        return bool(
            self.pressure.share < 1.0
            or self.penalised_until
            or self.paused_until
            or self.failed_connects
            or self.triggered
        )
