"""One batch of a plan: what each of its mails becomes, asked once more at the last moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from sluice.domain.errors import Undecodable
from sluice.domain.events import Priority
from sluice.domain.idempotency import guard_partition
from sluice.domain.redrive import Item, Options, Reason, exclusion
from sluice.domain.redriven import Redrive, drive_again, driven_id
from sluice.domain.topics import SEND
from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.ports.records import ORIGIN, REASON
from sluice.ports.redrive import Contents, Mails
from sluice.redrive.planning import origin_of

_PRIORITY_OF: dict[str, Priority] = {topic: priority for priority, topic in SEND.items()}


class Run(msgspec.Struct, frozen=True):
    """One driver of a plan: its name, and how it drives."""

    plan_id: str
    name: str
    options: Options


class Dealt(msgspec.Struct, frozen=True):
    """What a batch becomes: records to publish, and how many mails are not driven after all, by reason."""

    records: list[Record]
    skipped: dict[str, int]


def deal(
    items: Sequence[Item],
    run: Run,
    *,
    mails: Mails,
    contents: Contents,
    first_kept: Mapping[tuple[str, int], int],
    partitions: Mapping[str, int],
    now: datetime,
) -> Dealt:
    """Ask what is known of each mail by now, and make the events that drive the rest again. Publishes nothing.

    What an earlier run of the plan has driven is left out, and counts as driven.
    """
    known = mails.look([(item.mail.tenant_id, item.mail.message_id) for item in items])
    found = contents.fetch([item.mail.content for item in items if item.mail.content is not None])
    fetched = iter(found)
    records: list[Record] = []
    skipped: Counter[Reason] = Counter()
    for item in items:
        content = next(fetched) if item.mail.content is not None else None
        mail = known.get((item.mail.tenant_id, item.mail.message_id), item.mail)
        if mail.driven_by == run.plan_id:
            continue
        mail = msgspec.structs.replace(mail, content=item.mail.content)
        reason = exclusion(mail, plan=run.plan_id, now=now, first_kept=first_kept)
        record = None if reason or content is None else _again(item, content, run, partitions, now)
        if record is None:
            skipped[reason or "content"] += 1
        else:
            records.append(record)
    return Dealt(records, {str(reason): count for reason, count in skipped.items()})


def _again(item: Item, content: Taken, run: Run, partitions: Mapping[str, int], now: datetime) -> Record | None:
    """The event for one mail; None when the record is not its event, which somebody has then put into its place."""
    of, options = item.mail.message_id, run.options
    priority = options.priority or _PRIORITY_OF.get(origin_of(content))
    if content.value is None or priority is None:
        return None
    kept = [pair for pair in content.headers if pair[0] not in (REASON, ORIGIN)]
    try:
        again = drive_again(
            content.value,
            kept,
            Redrive(run.plan_id, of, egress=options.egress),
            message_id=driven_id(run.plan_id, of, run.name, now.timestamp()),
            template_version=options.template_version,
            time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
    except Undecodable:
        return None
    topic = SEND[priority]
    partition = guard_partition(again.tenant_id, again.idempotency_key, partitions[topic])
    return Record(topic, again.value, content.key, again.headers, partition)
