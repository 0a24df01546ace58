"""What a client of SMTP sends, cut into commands and contents. No I/O."""

from __future__ import annotations

import msgspec

END = b"\r\n.\r\n"


class Command(msgspec.Struct, frozen=True):
    """A command's line, without its end."""

    line: bytes

    @property
    def verb(self) -> bytes:
        """Its first four letters, in capitals; every verb of RFC 5321 has four."""
        return self.line[:4].upper()


class Content(msgspec.Struct, frozen=True):
    """Octets of a mail; still dot-stuffed after DATA. ``last`` is false for a BDAT that others follow."""

    octets: bytes
    last: bool = True


class Incoming:
    """Bytes in, in any pieces; commands and contents out, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._in_content = False

    @property
    def unread(self) -> int:
        """Bytes of a command that has not ended."""
        return 0 if self._in_content else len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        self._buffer += data

    def expect_content(self) -> None:
        """What follows is content, up to a dot alone on its line: DATA was answered with 354 (RFC 5321 4.1.1.4)."""
        self._in_content = True

    def take(self) -> Command | Content | None:
        """The next one that is complete. A BDAT comes as its content (RFC 3030)."""
        return self._take_content() if self._in_content else self._take_command()

    def _take_content(self) -> Content | None:
        # The line end before the dot may be that of the DATA command.
        if self._buffer.startswith(b".\r\n"):
            end, skipped = 0, 3
        else:
            end, skipped = self._buffer.find(END, max(0, self._searched - len(END))), len(END)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        self._in_content, self._searched = False, 0
        return Content(self._cut(0, end, end + skipped))

    def _take_command(self) -> Command | Content | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        start = end + 2
        if self._buffer[:5].upper() != b"BDAT ":
            return Command(self._cut(0, end, start))
        words = self._buffer[:end].split()
        if len(words) < 2 or not words[1].isdigit():
            return Command(self._cut(0, end, start))
        stop = start + int(words[1])
        if len(self._buffer) < stop:
            return None
        return Content(self._cut(start, stop, stop), last=words[2:] == [b"LAST"])

    def _cut(self, start: int, end: int, consumed: int) -> bytes:
        taken = bytes(self._buffer[start:end])
        del self._buffer[:consumed]
        return taken
