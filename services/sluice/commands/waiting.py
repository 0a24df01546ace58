"""Waiting until a mail's outcome is known."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sluice.client import Receipt
from sluice.commands.failures import EXIT_FAILED
from sluice.commands.output import console, print_json, say, warn
from sluice.commands.timeline import timeline_table, what_next
from sluice.domain.outcome import FINAL
from sluice.runtime import console as parts
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.queries import Entry, Queries

_EVERY_S = 0.4


def wait_for(settings: Settings, receipt: Receipt, recipients: int, timeout: float, *, as_json: bool) -> int:
    """Print what became of the mails of an event; returns 0 when every one was delivered within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    names = [receipt.message_id, *(f"{receipt.message_id}.{n}" for n in range(recipients if recipients > 1 else 0))]
    with parts.queries(settings) as queries:
        while True:
            found = _known(queries, names)
            ended = [name for name, entries in found.items() if any(entry.event_type in FINAL for entry in entries)]
            if len(ended) >= recipients or receipt.message_id in ended or time.monotonic() > deadline:
                break
            time.sleep(_EVERY_S)
    delivered = sum(any(entry.event_type == "delivered" for entry in entries) for entries in found.values())
    if as_json:
        print_json({"message_id": receipt.message_id, "delivered": delivered, "recipients": recipients, "mails": found})
    else:
        for name, entries in found.items():
            say(name)
            console().print(timeline_table(entries))
            say(f"{what_next(entries, datetime.now(UTC))}\n")
    if delivered < recipients and not ended:
        warn(f"sluice send: no outcome within {timeout:g} s; look again with: sluice mail {receipt.message_id}")
    return 0 if delivered >= recipients else EXIT_FAILED


def _known(queries: Queries, names: list[str]) -> dict[str, list[Entry]]:
    return {name: entries for name in names if (entries := queries.timeline(name))}
