"""How long a plan takes at what sites allow by now."""

from __future__ import annotations

import pytest

from sluice.commands.redrive_shown import ceiling
from sluice.domain.lanes import LaneState
from sluice.domain.shaping import Rate
from sluice.domain.site import Site


def site(rate: str | None, lanes: int = 1) -> Site:
    return Site(name="big", connections=10, lanes=lanes, rate=Rate.parse(rate) if rate else None)


@pytest.mark.parametrize(
    ("rate", "lanes", "told", "a_second"),
    [
        ("100/s", 1, {}, 100.0),
        ("100/s", 4, {}, 100.0),
        ("100/s", 4, {"big#1": "5/s"}, 80.0),
        ("100/s", 2, {"big#0": "5/s", "big#1": "10/s"}, 15.0),
        ("100/s", 2, {"big#0": "unlimited", "other#0": "1/s"}, 100.0),
        ("100/s", 1, {"big#0": ""}, 100.0),
        (None, 1, {"big#0": "1/min"}, 1 / 60),
        (None, 1, {}, None),
        (None, 2, {"big#0": "unlimited"}, None),
    ],
)
def test_a_ceiling_is_what_lanes_tell_and_their_share_where_they_do_not(
    rate: str | None, lanes: int, told: dict[str, str], a_second: float | None
) -> None:
    found = ceiling(site(rate, lanes), {name: LaneState(rate=text) for name, text in told.items()})
    assert (None if found is None else round(found.count / found.per, 6)) == (
        None if a_second is None else round(a_second, 6)
    )
