"""What Kafka knows of sites: operators' words, and what workers last told of their lanes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from sluice.commands.failures import WrongUsage, explain
from sluice.commands.site_states import Heard, SiteView, view_site
from sluice.domain.reference import SiteControl
from sluice.domain.site import Penalty, Site, SiteRules, lane_partition
from sluice.domain.topics import SITES
from sluice.runtime import console as parts
from sluice.runtime.config import Settings


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``partitions`` is None when Kafka could not be asked; ``silent`` are those without a recent checkpoint."""

    controls: dict[str, SiteControl]
    heard: dict[str, Heard]
    partitions: int | None
    silent: tuple[int, ...] = ()
    notes: list[str] = []

    def view(self, site: Site, penalty: Penalty, now: datetime, *, quiet: bool = True) -> SiteView:
        """How a site stands by what is known; without ``quiet``, only the lanes that something was told of."""
        return view_site(
            site,
            heard=self.heard,
            partitions=self.partitions,
            control=self.controls.get(site.name),
            penalty=penalty,
            now=now,
            quiet=quiet,
        )

    def silence(self, among: Iterable[int | None]) -> list[str]:
        """A note about those of some partitions in which nothing was told lately."""
        silent = sorted(set(self.silent).intersection(among))
        if not silent:
            return []
        named = f"partition{'s' if len(silent) > 1 else ''} {', '.join(map(str, silent))}"
        return [f"no checkpoint is among the latest records of {named} of mail.outcome: lanes there are taken for idle"]


def look(settings: Settings) -> Facts:
    """Ask Kafka; raises :class:`sluice.domain.errors.SluiceError` or confluent-kafka's error when it cannot be."""
    with parts.catalogue(settings, (SITES,)) as known:
        controls = dict(known.controls)
    told = parts.lane_states(settings)
    heard: dict[str, Heard] = {}
    for one in told:
        if one.at is not None:
            # A lane that moved away when partitions were added is told of by its new owner, in another partition.
            heard |= {n: (s, one.at) for n, s in one.lanes.items() if lane_partition(n, len(told)) == one.partition}
    silent = tuple(one.partition for one in told if one.at is None)
    return Facts(controls=controls, heard=heard, partitions=len(told), silent=silent)


def look_if_possible(settings: Settings) -> Facts:
    """As :func:`look`; without Kafka nothing is known, and a note says why."""
    try:
        return look(settings)
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        note = f"{told[0]}; partitions, suspensions and the lanes' present state are not known"
        return Facts(controls={}, heard={}, partitions=None, notes=[note])


def site_called(text: str, rules: SiteRules) -> str:
    """The site that an operator names; raises :class:`WrongUsage` for what is a domain of one."""
    name = text.strip().lower().rstrip(".")
    found = rules.explain(name)
    if found.by == "domain" and found.site.name != name:
        raise WrongUsage(f"{name} is no site, it is a domain of the site {found.site.name}: name that")
    return name
