"""Which mails were made of one send event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sluice.adapters.clickhouse.client import ClickHouse

_MARGIN = timedelta(days=1)
"""Producers' clocks are their own."""


def mails_of(clickhouse: ClickHouse, message_id: str) -> list[str]:
    """Ids of the mails that an event with several recipients became: ``ID.0``, ``ID.1``, …, in that order.

    Raises ClickHouseAway and ClickHouseRefused. No index knows prefixes, so what bounds the reading is the time that a
    UUIDv7 carries.
    """
    since = made_at(message_id)
    bound = "AND event_time >= {since:DateTime64(3, 'UTC')}" if since else ""
    rows = clickhouse.rows(
        f"SELECT DISTINCT message_id FROM {clickhouse.database}.outcomes "  # noqa: S608 (a checked name)
        f"WHERE startsWith(message_id, {{prefix:String}}) {bound}",
        {"prefix": f"{message_id}.", **({"since": since - _MARGIN} if since else {})},
    )
    found = [row["message_id"] for row in rows]
    numbered = [(suffix, name) for name in found if (suffix := name[len(message_id) + 1 :]).isdigit()]
    return [name for _, name in sorted(numbered, key=lambda pair: int(pair[0]))]


def made_at(message_id: str) -> datetime | None:
    """When a UUIDv7 was made (RFC 9562 section 5.7); None for any other id."""
    digits = message_id[:36].replace("-", "")
    if len(message_id) < 36 or len(digits) != 32 or digits[12] != "7":
        return None
    try:
        return datetime.fromtimestamp(int(digits[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
