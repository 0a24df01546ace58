"""A stream of send events from JSON Lines: at full speed, and every refused line told with its reason."""

from __future__ import annotations

import contextlib
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from sluice.client import Client, Priority, Progress, Refusal, Summary
from sluice.commands.failures import EXIT_FAILED, WrongUsage
from sluice.commands.output import console, print_json, say, table

SHOWN = 20
"""Refused lines that are listed; all are counted, and all can be written to a file."""


class Line(msgspec.Struct, frozen=True):
    """A refused line, counted from 1."""

    line: int
    field: str
    reason: str


class _Source:
    """Reads lines, and remembers which line each event stood on; blank lines are no events."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read = 0
        self.blank: list[tuple[int, int]] = []
        """For each run of events after blank lines: index of its first event, and the line that stands on."""

    def __iter__(self) -> Iterator[bytes]:
        index, expected = 0, 1
        for number, line in enumerate(self._stream, 1):
            self.read += len(line)
            stripped = line.strip()
            if not stripped:
                continue
            if number != expected:
                self.blank.append((index, number))
            expected = number + 1
            index += 1
            yield stripped

    def line(self, index: int) -> int:
        """The line, from 1, of an event's index, from 0."""
        found = bisect_right(self.blank, index, key=lambda run: run[0])
        first, at = self.blank[found - 1] if found else (0, 1)
        return at + index - first


def send_stream(
    client: Client, file: str, priority: Priority | None, *, keep_going: bool, refused: Path | None, as_json: bool
) -> int:
    """Publish every line of ``file`` (``-`` is standard input); returns the exit code.

    1 when something was refused (unless ``keep_going``), or when the log did not acknowledge something.
    """
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_open(file))
        rejected = stack.enter_context(_create(refused)) if refused else None
        source = _Source(stream)

        def on_refused(refusal: Refusal) -> None:
            entry = Line(source.line(refusal.index), refusal.field, refusal.reason)
            if rejected is not None:
                rejected.write(msgspec.json.encode(entry) + b"\n")
            if len(lines) < SHOWN:
                lines.append(entry)

        show = stack.enter_context(_bar(file, source))
        summary = client.send_many(source, priority, progress=show, on_refused=on_refused)
    if as_json:
        _print_json(summary, lines)
    else:
        _print(summary, lines, refused)
    return EXIT_FAILED if summary.failed or (summary.refused and not keep_going) else 0


def _open(file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if file == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise WrongUsage(f"--file: {file}: {error.strerror}") from error


def _create(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    try:
        return path.open("wb")
    except OSError as error:
        raise WrongUsage(f"--refused: {path}: {error.strerror}") from error


@contextlib.contextmanager
def _bar(file: str, source: _Source) -> Iterator[Any]:
    """A progress bar on standard error, when that is a terminal; by bytes where the size is known."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    total = None if file == "-" else Path(file).stat().st_size
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(now: Progress) -> None:
            bad = f", {now.refused:,} refused" if now.refused else ""
            lost = f", {now.failed:,} failed" if now.failed else ""
            text = f"{now.published:,} published{bad}{lost}, {now.rate:,.0f}/s"
            bar.update(task, completed=source.read, description=text)

        yield show


def _print(summary: Summary, lines: list[Line], refused: Path | None) -> None:
    if lines:
        console().print(table(("line>", "field", "reason"), [(one.line, one.field, one.reason) for one in lines]))
        if summary.refused > len(lines):
            where = f"all are in {refused}" if refused else "--refused FILE keeps all of them"
            say(f"and {summary.refused - len(lines):,} more; {where}\n")
        counts = [(count, field, reason) for (field, reason), count in summary.refusals.items()]
        console().print(table(("lines>", "field", "reason"), counts[:SHOWN]))
    for reason, count in summary.failures.items():
        say(f"{count:,} not acknowledged: {reason}")
    say(
        f"{summary.taken:,} read, {summary.published:,} published, {summary.refused:,} refused, "
        f"{summary.failed:,} failed in {summary.seconds:.1f} s ({summary.rate:,.0f}/s)"
    )


def _print_json(summary: Summary, lines: list[Line]) -> None:
    print_json(
        {
            "read": summary.taken,
            "published": summary.published,
            "refused": summary.refused,
            "failed": summary.failed,
            "seconds": round(summary.seconds, 3),
            "rate": round(summary.rate, 1),
            "refusals": [
                {"field": field, "reason": reason, "count": count}
                for (field, reason), count in summary.refusals.items()
            ],
            "failures": summary.failures,
            "first_refused": lines,
        }
    )
