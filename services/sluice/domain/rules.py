"""All operator knowledge a service needs, as one value."""

from __future__ import annotations

import msgspec

from sluice.domain.bounce import BounceRules
from sluice.domain.retry import RetryRules
from sluice.domain.site import SiteRules
from sluice.domain.triggers import Triggers


class Rules(msgspec.Struct, frozen=True):
    """Sites and their limits, what replies mean, when to try again, and what replies do to traffic.

    ``version`` names their text: the same in every process that has the same rules.
    """

    sites: SiteRules
    bounces: BounceRules
    retry: RetryRules
    triggers: Triggers = msgspec.field(default_factory=Triggers)
    version: str = ""
