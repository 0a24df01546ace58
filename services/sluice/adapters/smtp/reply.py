"""Bytes to replies (RFC 5321 section 4.2), without a socket and in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from sluice.domain.replies import enhanced_status
from sluice.domain.smtp import Phase, Replied

MAX_LINE = 16_384
"""Octets. RFC 5321 section 4.5.3.1.5 allows 512; servers that quote policy or headers send more."""
MAX_REPLY = 65_536
"""Octets over all lines of one reply."""
MAX_TEXT = 1_000
"""Characters of a reply's text that are kept."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


class Garbage(Exception):
    """The server's fault: what it sent is no SMTP reply. The connection cannot be trusted any more."""


class Reply(msgspec.Struct, frozen=True):
    """One reply: its code and the text of each line, without code and line end."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """The command was done (2yz)."""
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        """The command was refused, for now (4yz) or for good (5yz)."""
        return self.code >= 400

    def at(self, phase: Phase) -> Replied:
        """The same as the end of an attempt."""
        text = " ".join(self.lines)[:MAX_TEXT]
        return Replied(phase, self.code, text, enhanced_status(self.code, text))


class ReplyReader:
    """Collects bytes and yields whole replies. After :class:`Garbage` it must not be fed again."""

    def __init__(self) -> None:
        self._rest = b""
        self._code = 0
        self._lines: list[str] = []
        self._size = 0

    @property
    def unfinished(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """The replies that ``data`` completes; to be exhausted. Raises :class:`Garbage` after those that were whole."""
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            reply = self._line(line.removesuffix(b"\r"))
            if reply is not None:
                yield reply
        self._check_length(self._rest)

    def _begin(self) -> None:
        self._code, self._size = 0, 0
        self._lines = []

    def _check_length(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise Garbage(f"a reply line of more than {MAX_LINE} octets")

    def _line(self, line: bytes) -> Reply | None:
        self._check_length(line)
        found = _LINE.fullmatch(line)
        if found is None:
            raise Garbage("a line that does not begin like a reply")
        code = int(found[1])
        if self._lines and code != self._code:
            raise Garbage(f"codes {self._code} and {code} in one reply")
        self._size += len(line)
        if self._size > MAX_REPLY:
            raise Garbage(f"a reply of more than {MAX_REPLY} octets")
        self._code = code
        self._lines.append(_UNPRINTABLE.sub(" ", (found[3] or b"").decode("utf-8", "replace")).strip())
        if found[2] == b"-":
            return None
        reply = Reply(code, tuple(self._lines))
        self._begin()
        return reply
