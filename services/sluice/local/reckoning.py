"""Where all mails went: by ClickHouse, against what was published and what the mailbox holds."""

# ruff: noqa: S608  (only the checked database name is put into SQL)

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.queries import STATES, Equation, Queries
from sluice.adapters.embedded.mailbox_store import Mailbox


class Reckoning(msgspec.Struct, frozen=True, kw_only=True):
    """``published`` mails by the producer's count; ``equation`` by ClickHouse; the rest compares Message-IDs."""

    published: int
    equation: Equation
    delivered: int
    """Message-IDs that ClickHouse says were delivered."""
    captured: int
    """Message-IDs that the mailbox holds."""
    missing: int
    """Delivered by ClickHouse, and not in the mailbox."""
    unknown: int
    """In the mailbox, and not delivered by ClickHouse."""
    repeated: int
    """Copies in the mailbox beyond the first of a Message-ID."""
    in_doubt: int
    """Mails of which it was once unknown whether the server had taken them: each may have come twice."""

    @property
    def difference(self) -> int:
        """Mails that do not add up: 0, or something is wrong."""
        unexplained = max(0, self.repeated - self.in_doubt)
        balance = abs(self.published - self.equation.accepted) + abs(self.equation.difference)
        return balance + self.missing + self.unknown + unexplained

    def line(self) -> str:
        """The equation in words."""
        shown = [state for state in STATES if state != "cancelled" or self.equation.cancelled]
        terms = " + ".join(f"{state} {getattr(self.equation, state)}" for state in shown)
        return f"accepted {self.equation.accepted} = {terms}"


class Line(msgspec.Struct, frozen=True):
    """A row of the table per site; latencies in milliseconds from publish to the 250."""

    site: str
    mails: int
    delivered: int
    bounced: int
    suppressed: int
    rejected: int
    expired: int
    dead: int
    waiting: int
    p50_ms: float | None
    p99_ms: float | None


class Ending(msgspec.Struct, frozen=True):
    """A row of the table per outcome; milliseconds from publish to the last thing that happened."""

    state: str
    mails: int
    p50_ms: float | None
    p99_ms: float | None


NOWHERE = "(no site: refused before)"
_TOOK = "dateDiff('millisecond', assumeNotNull(queued_at), assumeNotNull(delivered_at))"
_WAS = "isNotNull(delivered_at) AND isNotNull(queued_at)"


def reckon(clickhouse: ClickHouse, mailbox: Mailbox, published: int) -> Reckoning:
    """Compare everything; blocks. Raises what the queries raise."""
    rows = _rows(
        clickhouse, "SELECT DISTINCT rfc5322_message_id AS id FROM {db}.outcomes WHERE event_type = 'delivered'"
    )
    delivered = {row["id"] for row in rows}
    copies = Counter((mail.rfc5322_message_id or "").strip("<>") for mail in mailbox.received())
    doubted = _rows(clickhouse, "SELECT uniqExact(message_id) AS n FROM {db}.outcomes WHERE event_type = 'in_doubt'")
    return Reckoning(
        published=published,
        equation=Queries(clickhouse).equation(),
        delivered=len(delivered),
        captured=len(copies),
        missing=len(delivered - set(copies)),
        unknown=len(set(copies) - delivered),
        repeated=sum(copies.values()) - len(copies),
        in_doubt=doubted[0]["n"],
    )


def per_site(clickhouse: ClickHouse, top: int = 15) -> list[Line]:
    """The ``top`` sites with the most mails, the others together, and mails that never had a site."""
    counts = ", ".join(f"countIf(state = '{state}') AS {state}" for state in Line.__struct_fields__[2:9])
    rows = _rows(
        clickhouse,
        "WITH big AS (SELECT site FROM {db}.mail_state WHERE site != '' GROUP BY site ORDER BY count() DESC, site "
        f"LIMIT {top}) "
        f"SELECT multiIf(m.site = '', '{NOWHERE}', m.site IN (SELECT site FROM big), m.site, '(all others)') AS name, "
        f"count() AS mails, {counts}, "
        f"quantileExactOrNullIf(0.5)({_TOOK}, {_WAS}) AS p50_ms, "
        f"quantileExactOrNullIf(0.99)({_TOOK}, {_WAS}) AS p99_ms "
        "FROM {db}.mail_state AS m GROUP BY name ORDER BY startsWith(name, '('), mails DESC, name",
    )
    return [msgspec.convert({**row, "site": row["name"]}, Line, strict=False) for row in rows]


def per_outcome(clickhouse: ClickHouse) -> list[Ending]:
    """How mails ended, the commonest first."""
    took = "dateDiff('millisecond', assumeNotNull(queued_at), last_at)"
    rows = _rows(
        clickhouse,
        f"SELECT state, count() AS mails, quantileExactOrNullIf(0.5)({took}, isNotNull(queued_at)) AS p50_ms, "
        f"quantileExactOrNullIf(0.99)({took}, isNotNull(queued_at)) AS p99_ms "
        "FROM {db}.mail_state GROUP BY state ORDER BY mails DESC",
    )
    return [msgspec.convert(row, Ending, strict=False) for row in rows]


def _rows(clickhouse: ClickHouse, sql: str) -> list[dict[str, Any]]:
    return clickhouse.rows(sql.replace("{db}", clickhouse.database))
