"""Which mails somebody means who has only what the recipient sees: an address, or a Message-ID."""

from __future__ import annotations

from urllib.parse import unquote

from sluice.adapters.clickhouse.client import ClickHouse


def mails_to(clickhouse: ClickHouse, recipient_hash: str, limit: int) -> list[str]:
    """Ids of the latest mails to an address, by its keyed hash, the latest first.

    Raises ClickHouseAway and ClickHouseRefused.
    """
    rows = clickhouse.rows(
        f"SELECT message_id, max(event_time) AS at FROM {clickhouse.database}.outcomes "  # noqa: S608 (a checked name)
        "WHERE recipient_hash = {hash:String} GROUP BY message_id ORDER BY at DESC, message_id DESC "
        "LIMIT {limit:UInt32}",
        {"hash": recipient_hash, "limit": limit},
    )
    return [row["message_id"] for row in rows]


def mail_with_header(clickhouse: ClickHouse, rfc5322_message_id: str) -> str | None:
    """The id of the mail with a Message-ID (given without angle brackets), which holds it: at most quoted.

    Raises ClickHouseAway and ClickHouseRefused.
    """
    left, _, _ = rfc5322_message_id.rpartition("@")
    rows = clickhouse.rows(
        f"SELECT message_id FROM {clickhouse.database}.outcomes "  # noqa: S608 (a checked name)
        "WHERE message_id IN ({left:String}, {quoted:String}) AND rfc5322_message_id = {id:String} LIMIT 1",
        {"left": left, "quoted": unquote(left), "id": rfc5322_message_id},
    )
    return rows[0]["message_id"] if rows else None
