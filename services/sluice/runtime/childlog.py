"""A child's output, in a file that does not grow without bound."""

from __future__ import annotations

from pathlib import Path

TAIL_BYTES = 64 * 1024


class RotatedFile:
    """Appends to ``path``; when it would pass ``limit`` bytes it becomes ``path.1``, the former ``path.1`` ``path.2``,
    and so on up to ``kept`` old files. It is cut between lines where that is possible."""

    def __init__(self, path: Path, limit: int, kept: int) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, data: bytes) -> None:
        """Append; it is in the files when this returns, however much came at once."""
        while self._size + len(data) > self._limit:
            room = self._limit - self._size
            end = data.rfind(b"\n", 0, room) + 1
            if not (end or self._size):
                end = room
            self._append(data[:end])
            data = data[end:]
            self._rotate()
        self._append(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._size = self._file.tell()

    def _rotate(self) -> None:
        self._file.close()
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self._kept + 1))]
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            if newer.exists():
                newer.replace(older)
        if self._kept == 0:
            self.path.unlink()
        self._open()


def tail(path: Path, lines: int) -> str:
    """The last ``lines`` lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
