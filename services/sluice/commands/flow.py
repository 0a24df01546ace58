"""How far each service is behind, and how fast topics move: two looks at Kafka's offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from sluice.commands.groups import GROUPS, group_name
from sluice.domain.errors import SluiceError
from sluice.domain.topics import DEAD

if TYPE_CHECKING:
    from sluice.adapters.kafka.survey import KafkaSurvey


class Look(msgspec.Struct, frozen=True):
    """Offsets at a moment (monotonic seconds): records kept, ends, and what groups have committed, by topic.

    ``behind`` is the next offset to read of each partition that holds any its group has not handled.
    """

    at: float
    records: dict[str, int]
    end: dict[str, int]
    done: dict[str, int]
    lag: dict[str, int]
    members: dict[str, int]
    behind: dict[tuple[str, int], int] = {}


class TopicFlow(msgspec.Struct, frozen=True):
    """One topic: what it holds, what is not handled yet, and records per second in and out (None: not known yet)."""

    topic: str
    service: str
    members: int
    records: int
    lag: int
    rate_in: float | None
    rate_out: float | None


def look(survey: KafkaSurvey, at: float) -> Look:
    """Ask Kafka once; raises :class:`SluiceError` when it does not answer, or has none of the topics."""
    wanted = [*(topic for topics in GROUPS.values() for topic in topics), DEAD]
    there = survey.partitions()
    partitions = {topic: there[topic] for topic in wanted if topic in there}
    if not partitions:
        raise SluiceError("Kafka has none of Sluice's topics: create them with sluice topics apply")
    groups = survey.groups([group_name(service) for service in GROUPS])
    spans = survey.spans(partitions)
    records, end, done, lag = (dict.fromkeys(partitions, 0) for _ in range(4))
    behind: dict[tuple[str, int], int] = {}
    reader = {topic: group_name(service) for service, topics in GROUPS.items() for topic in topics}
    for (topic, partition), (first, last) in spans.items():
        records[topic] += last - first
        end[topic] += last
        committed: Mapping[tuple[str, int], int] = groups[reader[topic]].committed if topic in reader else {}
        reached = max(first, committed.get((topic, partition), first))
        done[topic] += reached
        lag[topic] += max(0, last - reached)
        if topic in reader and last > reached:
            behind[topic, partition] = reached
    members = {service: groups[group_name(service)].members for service in GROUPS}
    return Look(at, records, end, done, lag, members, behind)


def flows(now: Look, before: Look | None) -> list[TopicFlow]:
    """Each topic as it stands, with its rates since ``before``; the dead letters, which nobody reads, last."""
    service_of = {topic: service for service, topics in GROUPS.items() for topic in topics}
    seconds = now.at - before.at if before else 0.0

    def rate(name: str, topic: str) -> float | None:
        if before is None or seconds <= 0:
            return None
        moved: int = getattr(now, name)[topic] - getattr(before, name).get(topic, 0)
        return max(0.0, moved / seconds)

    return [
        TopicFlow(
            topic,
            service_of.get(topic, ""),
            now.members.get(service_of.get(topic, ""), 0),
            now.records[topic],
            now.lag[topic] if topic in service_of else 0,
            rate("end", topic),
            rate("done", topic) if topic in service_of else None,
        )
        for topic in now.records
    ]
