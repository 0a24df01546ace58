"""What the commands that watch are built on; loaded by them only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.domain.catalogue import Catalogue
from sluice.domain.topics import OUTCOME, SITES
from sluice.runtime import console
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from sluice.adapters.kafka.ages import KafkaAges
    from sluice.adapters.kafka.outcome_tail import OutcomeTail
    from sluice.adapters.kafka.reference import KafkaReference


def outcome_tail(settings: Settings, since: float) -> OutcomeTail:
    """Outcomes from ``since`` (seconds since the epoch) on; raises as :func:`console.require`, or Kafka's error."""
    from sluice.adapters.kafka.outcome_tail import OutcomeTail

    console.require(settings, OUTCOME)
    tail = OutcomeTail(console.kafka_options(settings), since)
    try:
        tail.begin()
    except BaseException:
        tail.close()
        raise
    return tail


def ages(settings: Settings) -> KafkaAges:
    """Looks at the oldest records that were not handled."""
    from sluice.adapters.kafka.ages import KafkaAges

    return KafkaAges(console.kafka_options(settings))


def suspensions(settings: Settings, known: Catalogue) -> KafkaReference:
    """Operators' words on sites, followed into ``known``; begun."""
    from sluice.adapters.kafka.reference import KafkaReference

    console.require(settings, SITES)
    following = KafkaReference(console.kafka_options(settings), known, (SITES,))
    following.start()
    return following
