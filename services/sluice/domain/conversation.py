"""The SMTP conversation of one attempt: noted as it goes on, told in bounded size and without addresses or content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from sluice.domain.replies import without_addresses
from sluice.domain.smtp import Phase

Moment = Literal[Phase, "tls", "content", "log", "turn"]
"""What a part of a conversation was about.

As :data:`sluice.domain.smtp.Phase`, and: ``tls``, the handshake; ``content``, handing the content to the network;
``log``, waiting until the attempt is written down; ``turn``, waiting behind mails that the log held up. The last three
are told from :data:`WORTH_TELLING` on.
"""

WORTH_TELLING = 0.001
"""Seconds."""
MOST_BYTES = 2_000
"""Of commands and replies together."""
MOST_EXCHANGES = 24
"""A conversation that tried several servers may have more: then the last are told."""
_LONGEST = 600
"""Characters of a reply that are looked at."""
_LENGTHS = (400, 160, 60, 20)
"""Characters that are kept of a reply, tried in turn until all is within :data:`MOST_BYTES`."""
_CUT = "…"
_REFUSED = 400


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A command and its reply. What no server said stands in parentheses; ``ms`` is since the exchange before."""

    phase: Moment
    command: str = ""
    reply: str = ""
    ms: float = 0.0


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was said in one attempt. ``mail`` counts the mails of its connection from 1: the first has the greeting."""

    exchanges: list[Exchange]
    mail: int = 1


class Part(msgspec.Struct, gc=False):
    """A part as it was noted; times are those of the transcript's clock. ``code`` is 0 where no server replied."""

    phase: Moment
    command: str
    began: float
    ended: float
    code: int = 0
    lines: Sequence[str] = ()
    well: bool = True
    """Whether it was no refusal and no failure."""


class Transcript:
    """Notes an attempt's conversation. ``now`` is a clock in seconds; ``mail`` as in :class:`Conversation`.

    Commands are noted as they may be told: without addresses and secrets. Replies are noted as they came.
    """

    __slots__ = ("_mail", "_open", "now", "parts")

    def __init__(self, now: Callable[[], float], mail: int = 1) -> None:
        self.now = now
        self.parts: list[Part] = []
        self._mail = mail
        self._open: Part | None = None

    def say(self, phase: Moment, command: str = "") -> None:
        """A part begins: something was said, or is waited for."""
        began = self.now()
        self._open = Part(phase, command, began, began)

    def hear(self, code: int, lines: Sequence[str]) -> None:
        """The reply to what was said last."""
        part = self._open
        if part is not None:
            part.code, part.lines, part.well = code, lines, code < _REFUSED
            self._close(part)

    def note(self, text: str, *, well: bool = False) -> None:
        """What was said last ended without a reply; ``text`` says how, ``well`` whether as it should."""
        part = self._open
        if part is not None:
            part.lines, part.well = (text,), well
            self._close(part)

    def passed(self) -> None:
        """What was waited for has come; forgotten when that took no time."""
        part, self._open = self._open, None
        if part is not None and self.now() - part.began >= WORTH_TELLING:
            self._close(part)

    def told(self) -> Conversation | None:
        """All that was noted; None when nothing was."""
        if not self.parts:
            return None
        parts = self.parts[-MOST_EXCHANGES:]
        replies = [_reply(part) for part in parts]
        if sum(map(len, replies)) > MOST_BYTES // 8:
            replies = _within(replies, MOST_BYTES - sum(len(part.command.encode()) for part in parts))
        exchanges = [
            Exchange(part.phase, part.command, reply, _milliseconds(part))
            for part, reply in zip(parts, replies, strict=True)
        ]
        return Conversation(exchanges, self._mail)

    def _close(self, part: Part) -> None:
        part.ended = self.now()
        self.parts.append(part)
        self._open = None


def _milliseconds(part: Part) -> float:
    return round(max(0.0, part.ended - part.began) * 1000, 2)


def _reply(part: Part) -> str:
    if not part.code and not part.lines:
        return ""
    lines = part.lines
    text = lines[0] if len(lines) == 1 else " / ".join(lines)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + _CUT
    if "@" in text:
        text = without_addresses(text)
    return f"{part.code} {text}" if part.code else f"({text})"


def _within(replies: list[str], most: int) -> list[str]:
    """The replies, the longest cut until their bytes are at most ``most``."""
    for length in _LENGTHS:
        cut = [reply if len(reply) <= length else reply[: length - 1] + _CUT for reply in replies]
        if _bytes(cut) <= most:
            return cut
    return [reply[:3] for reply in replies]


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "replace")) for text in texts)
