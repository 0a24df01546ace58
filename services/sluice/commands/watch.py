"""``sluice watch``: what goes through Sluice at this moment, from Kafka alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from sluice.commands.output import AsJson, console
from sluice.commands.watch_frame import Frame
from sluice.commands.watch_screen import Room, draw, room
from sluice.commands.watch_sources import Sources
from sluice.commands.watch_window import Filters
from sluice.domain.events import Priority
from sluice.runtime import console_rules
from sluice.runtime.config import load_settings

_SAMPLE_S = 1.0
"""Between the two looks at topics that a single frame's rates are taken from."""


def watch(
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between frames.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so long.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only this site, as sluice sites list names it.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's mail.")] = None,
    priority: Annotated[Priority | None, typer.Option("--priority", "-p", help="Only mail of this priority.")] = None,
    as_json: AsJson = False,
) -> None:
    """Watch mail go through: rates, lag, lanes and what holds them back, slow sites, failures as they come.

    It asks Kafka alone, and goes on when Kafka was away. With --json, an object per line and frame. With --once, exit
    code 1 when something could not be asked.

    Example: [cyan]sluice watch --site google --every 1[/]
    """
    settings = load_settings()
    sources = Sources(settings, console_rules.rules(settings), Filters(site, tenant, priority))
    try:
        problems = sources.load()
        if once:
            problems += sources.listen(_SAMPLE_S)
            frame = sources.frame(problems)
            _write(frame) if as_json else _print(frame)
            raise typer.Exit(1 if frame.problems else 0)
        ends = time.monotonic() + seconds if seconds is not None else float("inf")
        frames = _Frames(sources, every, ends)
        if as_json:
            frames.each(_write)
        elif sys.stdout.isatty():
            _live(frames)
        else:
            frames.each(_print)
    except KeyboardInterrupt:
        return
    finally:
        sources.close()


class _Frames:
    """One frame after the other, until a moment (monotonic)."""

    def __init__(self, sources: Sources, every: float, ends: float) -> None:
        self._sources, self._every, self._ends = sources, every, ends

    def each(self, show: Callable[[Frame], None]) -> None:
        """Show each as it is made."""
        while True:
            problems = self._sources.listen(min(self._every, max(0.0, self._ends - time.monotonic())))
            show(self._sources.frame(problems))
            if time.monotonic() >= self._ends:
                return


def _write(frame: Frame) -> None:
    sys.stdout.write(msgspec.json.encode(frame).decode() + "\n")
    sys.stdout.flush()


def _print(frame: Frame) -> None:
    console().print(draw(frame, Room()))


def _live(frames: _Frames) -> None:
    from rich.live import Live

    screen = console()
    with Live(console=screen, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        frames.each(lambda frame: live.update(draw(frame, room(screen.size.height, frame)), refresh=True))
