"""Showing a stack: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sluice.local.figures import Figures, Observer
from sluice.local.stack import LocalStack
from sluice.runtime.child import ChildStatus

FIGURES_EVERY = 2.0
_COLOURS = {"ready": "green", "failed": "red", "restarting": "yellow", "starting": "cyan"}
_SHOWN_FACTS = ("unfinished", "connections", "lag", "waiting", "outcomes")


class Display:
    """Tells what happens. :meth:`watch` is for :func:`sluice.local.running.running`."""

    def __init__(self, console: Console, *, live: bool | None = None) -> None:
        self.console = console
        self._live: Live | None = None
        self._is_live = console.is_terminal if live is None else live
        self._states: dict[str, tuple[str, float]] = {}
        self._children: Sequence[ChildStatus] = ()
        self._figures: Figures | None = None
        self._below: RenderableType = ""
        self._told = ""

    def start(self) -> None:
        """Begin to draw, on a terminal."""
        if self._is_live and self._live is None:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self._draw)
            self._live.start()

    def stop(self) -> None:
        """Draw no more."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, text: str) -> None:
        """A line that the next one replaces; without a terminal, one in every few seconds is printed."""
        if self._live is not None:
            self._below = Text(text)
        elif text != self._told:
            self.say(text)
        self._told = text

    def watch(self, children: Sequence[ChildStatus]) -> None:
        """Take in how the processes are, and tell what changed."""
        self._children = children
        for child in children:
            state, since = self._states.get(child.name, ("", child.since))
            if child.state == state:
                continue
            self._states[child.name] = (child.state, child.since)
            if self._live is None and child.state not in ("waiting", "stopping", "stopped"):
                took = f" after {child.since - since:.1f} s" if child.state == "ready" else ""
                why = f" ({child.last_exit})" if child.state in ("restarting", "failed") and child.last_exit else ""
                self.say(f"  {child.name}: {child.state}{took}{why}")

    @asynccontextmanager
    async def figures(self, stack: LocalStack) -> AsyncIterator[None]:
        """Ask for figures every two seconds meanwhile."""

        async def ask() -> None:
            observer = Observer(stack)
            try:
                while True:
                    self._figures = await asyncio.to_thread(observer.look)
                    await asyncio.sleep(FIGURES_EVERY)
            finally:
                observer.close()

        asking = asyncio.create_task(ask()) if self._live is not None else None
        try:
            yield
        finally:
            if asking is not None:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking

    def below(self, what: RenderableType) -> None:
        """Draw ``what`` under the table of processes."""
        self._below = what

    def _draw(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for column in ("process", "state", "for", "pid", "restarts", ""):
            table.add_column(column, justify="right" if column in ("for", "pid", "restarts") else "left")
        now = time.time()
        for child in self._children:
            facts = self._figures.facts.get(child.name, {}) if self._figures else {}
            told = ", ".join(f"{name} {facts[name]:g}" for name in _SHOWN_FACTS if facts.get(name))
            table.add_row(
                child.name,
                Text(child.state, style=_COLOURS.get(child.state, "")),
                f"{now - child.since:.0f} s",
                str(child.pid or ""),
                str(child.restarts or ""),
                told,
            )
        return Group(table, Text(self._rates()), self._below)

    def _rates(self) -> str:
        if self._figures is None or self._figures.rates is None:
            return ""
        told = ", ".join(f"{kind} {rate:,.1f}" for kind, rate in self._figures.rates.items())
        return f"\noutcomes per second: {told or 'none for 10 s'}"


def addresses(stack: LocalStack) -> list[tuple[str, str]]:
    """What can be reached where, for people."""
    settings, folder = stack.settings, stack.folder
    found = [("Kafka", settings.kafka_bootstrap), ("ClickHouse", f"{_bare(settings.clickhouse_url)}")]
    if stack.options.smtp is None:
        found += [("SMTP", f"127.0.0.1:{stack.ports['mailbox']}"), ("mails", str(folder.mailbox))]
    else:
        found += [("SMTP", stack.options.smtp)]
    return [*found, ("logs", str(folder.logs)), ("settings", str(folder.environment))]


def _bare(url: str) -> str:
    """The URL without user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].rstrip('/')}"
