"""What was said to a server in one attempt, for reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sluice.commands.output import table

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.queries import Entry
    from sluice.domain.conversation import Exchange

_WORDS = {
    "tls": "(TLS handshake)",
    "log": "(until the attempt is written down)",
    "turn": "(behind mails that the log held up)",
    "banner": "(its greeting)",
}


def conversations(entries: Sequence[Entry]) -> list[Table]:
    """A table for each attempt that has one, in order."""
    return [_conversation(entry) for entry in entries if entry.conversation]


def conversation_lines(entry: Entry) -> list[str]:
    """The same as lines, for whoever watches; none when there is no conversation."""
    return [
        "    "
        + "  ".join(part for part in (f"{each.phase:<8}", _took(each.ms).rjust(9), _said(each), each.reply) if part)
        for each in entry.conversation
    ]


def _said(exchange: Exchange) -> str:
    return exchange.command or _WORDS.get(exchange.phase, "")


def _conversation(entry: Entry) -> Table:
    rows = []
    for left, exchange in reversed(list(enumerate(reversed(entry.conversation)))):
        wrong = exchange.reply[:1] in ("4", "5") or (not left and entry.event_type != "delivered")
        heard = Text(exchange.reply, style="red" if wrong else "")
        rows.append((exchange.phase, _said(exchange), heard, _took(exchange.ms)))
    where = f" with {entry.mx_host}" if entry.mx_host else ""
    reused = f", mail {entry.connection_mail} of its connection" if entry.connection_mail > 1 else ""
    title = f"attempt {entry.attempt}{where}{reused}: {entry.event_type}"
    return table(("", "said", "heard", "took>"), rows, title=title)


def _took(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.1f} s"
