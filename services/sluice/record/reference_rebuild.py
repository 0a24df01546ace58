"""What it takes to have the reference topics hold what their mirror holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.ports.mirror import RecordRow
from sluice.record.mirror import key_hash

Standing = Literal["same", "restore", "remove", "newer", "gone"]
"""Of a key. ``same``: both say the same. ``restore``, ``remove``: the topic lacks the record, or the removal, or has an
older one. ``newer``: what the topic has was written later, and stays. ``gone``: removed in the mirror, and not in the
topic either."""


class Entry(msgspec.Struct, frozen=True):
    """A key of the mirror, how it stands, and what to publish for it."""

    topic: str
    standing: Standing
    record: Record | None = None


def entries(mirror: Iterable[RecordRow], there: Iterable[Taken], hashed: Callable[[str], str]) -> list[Entry]:
    """Compare the mirror with all records that the topics hold now, in the topics' order.

    Which of two different records is later is decided by when they were written. Keys that only a topic has stay.
    """
    last = {(record.topic, key_hash(record.key or b"", hashed)): record for record in there}
    return [_entry(row, last.get((row.topic, row.key_hash))) for row in mirror]


def _entry(row: RecordRow, found: Taken | None) -> Entry:
    value = None if row.removed else row.value.encode()
    if found is None:
        # Nothing to remove, and of what was removed the key is not known.
        return Entry(row.topic, "gone") if value is None else _publish(row.topic, row.key.encode(), value)
    if (found.value or None) == value:
        return Entry(row.topic, "same")
    # The mirror's times are whole milliseconds, and so are the log's.
    if found.stored_at > row.changed_at.timestamp() - 0.0005:
        return Entry(row.topic, "newer")
    return _publish(row.topic, found.key or b"", value)


def _publish(topic: str, key: bytes, value: bytes | None) -> Entry:
    return Entry(topic, "remove" if value is None else "restore", Record(topic, value, key))
