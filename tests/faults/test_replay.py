"""Commits as Kafka stores them tell which batches there were."""

from __future__ import annotations

import json
import struct

from sluice.local.torture.replay import metadata_of

RANGES = '{"v": 1, "ranges": "2:0-8,3:0-36"}'


def key(group: str = "sluice-record", kind: int = 1) -> bytes:
    topic = b"mail.outcome"
    return struct.pack(f">hh{len(group)}sh12si", kind, len(group), group.encode(), 12, topic, 2)


def test_the_ranges_of_a_batch_are_read_from_a_commit_of_today() -> None:
    """As a broker of version 4 has written it."""
    value = (
        b"\x00\x04" + bytes(8) + b"\xff\xff\xff\xff" + b"$" + RANGES.encode() + b"\0\x00\x00\x01\xa2\x08(\xce\xa3\x00"
    )
    assert json.loads(metadata_of(key(), value)) == {"v": 1, "ranges": "2:0-8,3:0-36"}


def test_long_metadata_of_today_and_commits_of_earlier_brokers_are_read() -> None:
    long = json.dumps({"ranges": "x" * 300})
    size = len(long) + 1
    today = b"\x00\x04" + bytes(12) + bytes((size & 0x7F | 0x80, size >> 7)) + long.encode() + bytes(9)
    assert metadata_of(key(), today) == long
    earlier = b"\x00\x03" + bytes(12) + struct.pack(">h", len(RANGES)) + RANGES.encode() + bytes(8)
    assert metadata_of(key(), earlier) == RANGES


def test_other_groups_other_records_and_removed_commits_tell_nothing() -> None:
    value = b"\x00\x04" + bytes(12) + b"\x01" + bytes(9)
    assert metadata_of(key(), value) == ""
    assert metadata_of(key("sluice-deliver"), value) == ""
    assert metadata_of(key(kind=2), value) == ""
    assert metadata_of(key(), b"") == ""
    assert metadata_of(b"", value) == ""
