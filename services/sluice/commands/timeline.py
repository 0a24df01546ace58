"""A mail's timeline, for reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sluice.commands.output import duration, table
from sluice.domain.outcome import FINAL

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.queries import Entry

_STYLES = {"delivered": "green", "deferred": "yellow", "in_doubt": "yellow", "held": "yellow", "scheduled": "cyan"}
_WAITS = ("queue", "schedule", "rate", "connection", "retry")


def timeline_table(entries: Sequence[Entry]) -> Table:
    """One row for each outcome."""
    columns = ("time (UTC)", "after>", "what", "attempt>", "where", "reply or reason", "decided by", "waited for")
    rows = []
    before: datetime | None = None
    for entry in entries:
        since = f"+{duration((entry.event_time - before).total_seconds() * 1000)}" if before else ""
        before = entry.event_time
        failed = "red" if entry.event_type in FINAL else ""
        rows.append(
            (
                entry.event_time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                since,
                Text(entry.event_type, style=_STYLES.get(entry.event_type, failed)),
                entry.attempt or None,
                _where(entry),
                _said(entry),
                entry.rule or entry.category,
                _waited(entry),
            )
        )
    return table(columns, rows)


def what_next(entries: Sequence[Entry], now: datetime) -> str:
    """What happens to the mail from here on, as a sentence."""
    kinds = [entry.event_type for entry in entries]
    if "delivered" in kinds:
        delivered = next(entry for entry in entries if entry.event_type == "delivered")
        took = (delivered.event_time - entries[0].event_time).total_seconds() * 1000
        return f"Delivered {duration(took)} after compose took it up; nothing more happens."
    last = entries[-1]
    if last.event_type in FINAL:
        return f"It ended as {last.event_type}; nothing more happens by itself."
    if last.event_type == "held":
        return "It is not known whether the site took it: sluice mail release sends it again, sluice mail drop ends it."
    if last.next_attempt_at is None:
        return "It is on its way."
    left = (last.next_attempt_at - now).total_seconds() * 1000
    at = last.next_attempt_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    what = "It is made into mail" if last.event_type == "scheduled" else "The next attempt is"
    return f"{what} at {at}, in {duration(left)}." if left > 0 else f"{what} due since {at}."


def _where(entry: Entry) -> str:
    if not entry.mx_host:
        return entry.site
    tls = f", {entry.tls_version}" if entry.tls_version else ""
    address = f" [{entry.mx_address}]" if entry.mx_address and entry.mx_address != entry.mx_host else ""
    return f"{entry.mx_host}{address}{tls}"


def _said(entry: Entry) -> str:
    parts = []
    if entry.smtp_code:
        enhanced = f" {entry.smtp_enhanced}" if entry.smtp_enhanced else ""
        text = entry.smtp_text.removeprefix(entry.smtp_enhanced).strip()
        parts.append(f"{entry.smtp_code}{enhanced} {text} ({entry.smtp_phase})")
    if entry.field:
        parts.append(f"{entry.field}: {entry.reason}")
    elif entry.reason:
        parts.append(entry.reason)
    return "; ".join(parts)


def _waited(entry: Entry) -> str:
    waits = [(name, getattr(entry, f"wait_{name}_ms")) for name in _WAITS]
    return ", ".join(f"{name} {duration(value)}" for name, value in waits if value >= 1)
