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
    """One row for each outcome, below that of the publication. ``took`` is the attempt itself."""
    columns = (
        "time (UTC)", "after>", "what", "attempt>", "where", "took>", "reply or reason", "decided by", "waited for",
    )  # fmt: skip
    rows: list[Sequence[object]] = []
    before = published_at(entries)
    if before is not None:
        rows.append((_clock(before), "", "published", None, "", "", "", "", ""))
    for entry in entries:
        since = f"+{duration((entry.event_time - before).total_seconds() * 1000)}" if before else ""
        before = entry.event_time
        failed = "red" if entry.event_type in FINAL else ""
        rows.append(
            (
                _clock(entry.event_time),
                since,
                Text(entry.event_type, style=_STYLES.get(entry.event_type, failed)),
                entry.attempt or None,
                _where(entry),
                duration(entry.duration_ms) if entry.duration_ms else "",
                _said(entry),
                entry.rule or entry.category,
                _waited(entry),
            )
        )
    return table(columns, rows)


def timeline_line(entry: Entry) -> str:
    """An outcome in one line, for whoever watches."""
    attempt = f"attempt {entry.attempt}" if entry.attempt else ""
    took = f"in {duration(entry.duration_ms)}" if entry.duration_ms else ""
    decided = f"[{entry.rule or entry.category}]" if entry.rule or entry.category else ""
    waited = f"after waiting for {waits}" if (waits := _waited(entry)) else ""
    parts = (attempt, _where(entry), _said(entry), decided, took, waited)
    return f"{_clock(entry.event_time)}  {entry.event_type:<10}  {', '.join(part for part in parts if part)}"


def heading(name: str, entries: Sequence[Entry]) -> str:
    """Which mail it is."""
    headed = next((entry.rfc5322_message_id for entry in entries if entry.rfc5322_message_id), "")
    traced = next((entry.trace_id for entry in entries if entry.trace_id), "")
    parts = [name, f"tenant {entries[0].tenant_id}"]
    parts += [f"Message-ID <{headed}>"] if headed else []
    parts += [f"trace {traced}"] if traced else []
    driven = next((entry for entry in entries if entry.redrive_of), None)
    parts += [f"plan {driven.redrive_plan} drives {driven.redrive_of} again"] if driven else []
    return ", ".join(parts)


def published_at(entries: Sequence[Entry]) -> datetime | None:
    """When its event was published, as far as it is known."""
    return next((entry.queued_at for entry in entries if entry.queued_at), None)


def ended(entries: Sequence[Entry]) -> bool:
    """Whether nothing more happens to it by itself."""
    return any(entry.event_type in FINAL or entry.event_type == "held" for entry in entries)


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def what_next(entries: Sequence[Entry], now: datetime) -> str:
    """What happens to the mail from here on, as a sentence."""
    kinds = [entry.event_type for entry in entries]
    if "delivered" in kinds:
        delivered = next(entry for entry in entries if entry.event_type == "delivered")
        since = published_at(entries)
        took = (delivered.event_time - (since or entries[0].event_time)).total_seconds() * 1000
        what = "it was published" if since else "compose took it up"
        return f"Delivered {duration(took)} after {what}; nothing more happens."
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
    policy = f" ({entry.tls_policy})" if entry.tls_policy not in ("", "opportunistic") else ""
    tls = f", {entry.tls_version}{policy}" if entry.tls_version else ", no TLS" if entry.tls_policy else ""
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
