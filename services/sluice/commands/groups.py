"""Which service reads which topics, under the name that Kafka knows it by."""

from __future__ import annotations

from sluice.domain.topics import OUTCOME, READY, SEND, WHEEL

GROUPS: dict[str, tuple[str, ...]] = {
    "compose": tuple(SEND.values()),
    "deliver": tuple(READY.values()),
    "wheel": tuple(WHEEL.values()),
    "record": (OUTCOME,),
}


def group_name(service: str) -> str:
    """The consumer group of a service."""
    return f"sluice-{service}"
