"""Every topic: its name, and how it is laid out."""

from __future__ import annotations

from typing import Literal

import msgspec

from sluice.domain.events import PRIORITIES, Priority
from sluice.domain.schedule import TIERS

SEND: dict[Priority, str] = {priority: f"mail.send.{priority}" for priority in PRIORITIES}
READY: dict[Priority, str] = {priority: f"mail.ready.{priority}" for priority in PRIORITIES}
WHEEL: dict[str, str] = {tier: f"mail.wheel.{tier}" for tier, _ in TIERS}
OUTCOME = "mail.outcome"
DEAD = "mail.dead"
IDEMPOTENCY = "mail.idempotency"
DEMAND = "mail.demand"

TENANTS = "ref.tenants"
TEMPLATES = "ref.templates"
PROFILES = "ref.profiles"
SUPPRESSIONS = "ref.suppressions"
SITES = "ref.sites"
REFERENCE: tuple[str, ...] = (TENANTS, TEMPLATES, PROFILES, SUPPRESSIONS, SITES)

_DAY = 86_400_000
_FOREVER = -1

Policy = Literal["delete", "compact", "compact,delete"]


class TopicSpec(msgspec.Struct, frozen=True):
    """How a topic is to be: ``retention_ms`` -1 keeps for good; ``why`` is for whoever reads a plan."""

    name: str
    partitions: int
    policy: Policy
    retention_ms: int
    why: str
    broker_time: bool = False
    """Whether a record's time is when the broker stored it, rather than what its producer says."""


class Layout(msgspec.Struct, frozen=True):
    """Partition counts and retention that differ between installations."""

    send_partitions: int = 4
    """Of ``mail.send.*`` and ``mail.idempotency``, which must be equal."""
    lane_partitions: int = 4
    """Of ``mail.ready.*`` and ``mail.outcome``, which must be equal."""
    wheel_partitions: int = 2
    send_days: int = 7
    outcome_days: int = 7
    dead_days: int = 30
    idempotency_hours: int = 24


def topics(layout: Layout) -> tuple[TopicSpec, ...]:
    """Every topic of an installation."""
    send, lane, wheel = layout.send_partitions, layout.lane_partitions, layout.wheel_partitions
    kept = layout.send_days * _DAY
    keys_kept = layout.idempotency_hours * 3_600_000
    return (
        *(TopicSpec(name, send, "delete", kept, "send events") for name in SEND.values()),
        TopicSpec(IDEMPOTENCY, send, "compact,delete", keys_kept, "idempotency keys seen"),
        *(TopicSpec(name, lane, "delete", kept, "composed mails, by lane") for name in READY.values()),
        TopicSpec(OUTCOME, lane, "delete", layout.outcome_days * _DAY, "what became of mails; the ledger"),
        # A record rests for its tier's wait and is moved on; the week on top covers a wheel that stands still.
        *(TopicSpec(WHEEL[tier], wheel, "delete", int(s * 1000) + 7 * _DAY, f"waits of {tier}") for tier, s in TIERS),
        TopicSpec(DEAD, 1, "delete", layout.dead_days * _DAY, "records that could not be handled"),
        # One partition, since all who share a limit must read the same order.
        TopicSpec(DEMAND, 1, "delete", 3_600_000, "what deliver workers want of limits they share", broker_time=True),
        *(TopicSpec(name, 1, "compact", _FOREVER, "reference data") for name in REFERENCE),
    )
