"""Creating topics, and comparing those that are with those that should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from sluice.domain.topics import TopicSpec

MAX_MESSAGE_BYTES = 40 * 1024 * 1024
COMPACTED_WITHIN_MS = 86_400_000


class Change(msgspec.Struct, frozen=True):
    """What is to be done about a topic. ``refused`` cannot be done: ``detail`` says why and what to do instead."""

    topic: str
    action: Literal["create", "grow", "configure", "keep", "refused"]
    detail: str


class TopicAdmin:
    """Plans and applies topic layouts."""

    def __init__(self, options: Mapping[str, Any], replication: int) -> None:
        self._admin = AdminClient(dict(options))
        self._replication = replication

    def plan(self, specs: Iterable[TopicSpec]) -> list[Change]:
        """Compare with what the cluster has. Raises :class:`KafkaException` when it cannot be reached."""
        existing = self._admin.list_topics(timeout=20).topics
        changes: list[Change] = []
        for spec in specs:
            found = existing.get(spec.name)
            if found is None:
                detail = f"{spec.partitions} partitions, {spec.policy}: {spec.why}"
                changes.append(Change(spec.name, "create", detail))
                continue
            have = len(found.partitions)
            if have < spec.partitions:
                changes.append(Change(spec.name, "grow", f"{have} to {spec.partitions} partitions"))
            elif have > spec.partitions:
                detail = f"has {have} partitions, {spec.partitions} wanted; Kafka cannot take partitions away"
                changes.append(Change(spec.name, "refused", detail))
            else:
                changes.append(self._compare(spec))
        return changes

    def _compare(self, spec: TopicSpec) -> Change:
        resource = ConfigResource(ResourceType.TOPIC, spec.name)
        current = self._admin.describe_configs([resource])[resource].result(20)
        wrong = [
            f"{name}: {current[name].value} to {value}"
            for name, value in _config(spec, self._replication).items()
            if set(current[name].value.split(",")) != set(value.split(","))
        ]
        return (
            Change(spec.name, "configure", "; ".join(wrong)) if wrong else Change(spec.name, "keep", "as it should be")
        )

    def apply(self, specs: Iterable[TopicSpec]) -> list[Change]:
        """Make the cluster as planned; returns the plan. Safe to repeat. Raises :class:`KafkaException`."""
        wanted = {spec.name: spec for spec in specs}
        changes = self.plan(wanted.values())
        new = [
            NewTopic(
                c.topic,
                wanted[c.topic].partitions,
                self._replication,
                config=_config(wanted[c.topic], self._replication),
            )
            for c in changes
            if c.action == "create"
        ]
        grown = [NewPartitions(c.topic, wanted[c.topic].partitions) for c in changes if c.action == "grow"]
        if new:
            _wait(self._admin.create_topics(new))
        if grown:
            _wait(self._admin.create_partitions(grown))
        changed = [
            ConfigResource(ResourceType.TOPIC, c.topic, set_config=_config(wanted[c.topic], self._replication))
            for c in changes
            if c.action == "configure"
        ]
        if changed:
            _wait(self._admin.alter_configs(changed))
        return changes


def _config(spec: TopicSpec, replication: int) -> dict[str, str]:
    config = {
        "cleanup.policy": spec.policy,
        "retention.ms": str(spec.retention_ms),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        # acks=all waits for this many copies; one less than all, so that one broker may be away.
        "min.insync.replicas": str(max(1, replication - 1)),
    }
    if spec.broker_time:
        config["message.timestamp.type"] = "LogAppendTime"
    if "compact" in spec.policy:
        config["segment.ms"] = str(3_600_000)
    if spec.policy == "compact":
        # What was removed from reference data is to be gone in a known time, however little else changes.
        config["max.compaction.lag.ms"] = str(COMPACTED_WITHIN_MS)
    return config


def _wait(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
