"""Printing what happens to mails as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from sluice.commands.conversation import conversation_lines
from sluice.commands.output import say
from sluice.commands.timeline import ended, heading, timeline_line, what_next

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.queries import Entry

EVERY_S = 0.3
"""Outcomes are in ClickHouse within about a second; so soon are they shown."""


def follow(
    look: Callable[[], Mapping[str, Sequence[Entry]]], *, as_json: bool, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Print each step of the mails that ``look`` finds, once; returns when all have ended, or on ctrl-c."""
    seen: set[str] = set()
    headed: set[str] = set()
    try:
        while True:
            found = look()
            for name, entries in found.items():
                fresh = [entry for entry in entries if entry.event_id not in seen]
                seen.update(entry.event_id for entry in fresh)
                if as_json:
                    for entry in fresh:
                        sys.stdout.write(msgspec.json.encode({"message_id": name, "step": entry}).decode() + "\n")
                    continue
                if name not in headed:
                    headed.add(name)
                    say(heading(name, entries))
                for entry in fresh:
                    named = f"{name}  " if len(found) > 1 else ""
                    say("\n".join([f"{named}{timeline_line(entry)}", *conversation_lines(entry)]))
                if fresh:
                    say(f"  {what_next(entries, datetime.now(UTC))}")
            sys.stdout.flush()
            if found and all(ended(entries) for entries in found.values()):
                return
            sleep(EVERY_S)
    except KeyboardInterrupt:
        return
