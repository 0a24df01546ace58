"""All operator knowledge a service needs, as one value."""

from __future__ import annotations

import msgspec

from sluice.domain.bounce import BounceRules
from sluice.domain.retry import RetryRules
from sluice.domain.site import SiteRules


class Rules(msgspec.Struct, frozen=True):
    """Sites and their limits, what replies mean, and when to try again."""

    sites: SiteRules
    bounces: BounceRules
    retry: RetryRules
