"""How a lane's rate gives way to a site that asks for less, and recovers by itself.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): it settles near what the site takes, and lanes of the
same site that know nothing of each other settle on fair shares.
"""

from __future__ import annotations

import msgspec

from sluice.domain.shaping import Rate

THROTTLED = "throttled"
"""The pace that bounce rules give to replies which ask for less: they cut the lane's rate."""


class Give(msgspec.Struct, frozen=True):
    """How strongly a lane gives way. Shares are of the site's own allowance, times in seconds.

    Each cut multiplies the share by ``cut``, down to ``floor``; replies within ``quiet`` of a cut belong to it. From
    ``floor`` the whole allowance is regained after ``recover``.
    """

    cut: float = 0.5
    floor: float = 0.02
    quiet: float = 5.0
    recover: float = 900.0


class Pressure(msgspec.Struct, frozen=True):
    """What a lane has learnt: the ``share`` of its allowance right after the last cut, and when that was."""

    share: float = 1.0
    cut_at: float = 0.0

    def share_at(self, now: float, give: Give) -> float:
        """The share of the allowance that may be used at ``now``, between ``give.floor`` and 1."""
        if self.share >= 1.0:
            return 1.0
        return min(1.0, self.share + max(0.0, now - self.cut_at) / give.recover)

    def asked_for_less(self, now: float, give: Give) -> Pressure:
        """The site asked for less at ``now``."""
        if self.share < 1.0 and now - self.cut_at < give.quiet:
            return self
        return Pressure(max(give.floor, self.share_at(now, give) * give.cut), now)


def eased(rate: Rate, share: float) -> Rate:
    """A rate cut to a share of itself; below the whole there is no burst."""
    return rate if share >= 1.0 else Rate(rate.count * share, rate.per, 1)


def base_rate(rate: Rate | None, connections: int, service: float) -> Rate:
    """The rate to cut: the site's own, or what its connections can carry, at ``service`` seconds a mail."""
    return rate or Rate(max(1.0, connections / max(service, 0.001)), 1.0, 1)
