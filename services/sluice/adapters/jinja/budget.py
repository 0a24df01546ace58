"""What one rendering may use up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ITEMS = 100_000
"""Longest list a template may make; what Jinja2's sandbox allows ``range``."""
MAX_BITS = 4_096
"""Largest whole number, in bits."""

_EVERY = 64
_TOTAL = 16
"""All that a rendering makes on its way may be this many times as much as the longest text."""


class Exhausted(Exception):
    """A template used up its time, or made something too large."""


class Budget(threading.local):
    """Time and size for the rendering going on in this thread.

    Sandboxed code is compiled so that every loop, call, filter and operator that could run long or make something large
    comes by here. Between renderings (when constants are folded at compile time) only sizes are bounded.
    """

    deadline = float("inf")
    max_text = 2 * 1024 * 1024
    made = 0
    steps = 0

    def start(self, seconds: float, max_text: int) -> None:
        """Begin a rendering of at most ``seconds`` that makes strings of at most ``max_text`` characters."""
        self.deadline = time.perf_counter() + seconds
        self.max_text = max_text
        self.made = self.steps = 0

    def stop(self) -> None:
        """The rendering is over."""
        self.deadline = float("inf")
        self.made = 0

    def check(self) -> None:
        """Raise :class:`Exhausted` when the time is up."""
        if time.perf_counter() > self.deadline:
            raise Exhausted("took too long")

    def step(self) -> None:
        """:meth:`check`, at every 64th step only."""
        self.steps += 1
        if not self.steps % _EVERY:
            self.check()

    def size(self, characters: int) -> None:
        """Raise :class:`Exhausted` for a string, about to be made, that is too long."""
        if characters > self.max_text:
            raise Exhausted("made a text that is too long")

    def value(self, value: Any) -> Any:
        """``value``, unless it is too large, or all that was made so far is.

        The total matters as much as each thing: a list of a thousand references to one long string is small until
        something writes it out.
        """
        if isinstance(value, str):
            size = len(value)
        elif isinstance(value, _CONTAINERS):
            size = weight(value, self.max_text)
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise Exhausted("made a number that is too large")
            return value
        else:
            return value
        self.size(size)
        self.made += size
        if self.made > self.max_text * _TOTAL:
            raise Exhausted("made too much in all")
        return value

    def shown(self, value: Any) -> Any:
        """``value``, about to be written out, unless it is a container that would write too much."""
        if isinstance(value, _CONTAINERS):
            self.value(value)
        return value

    def items(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """The items of something lazy, each counted."""
        for item in iterable:
            self.step()
            yield self.value(item)

    def concat(self, pieces: Iterable[str]) -> str:
        """Join strings, their length checked before."""
        pieces = pieces if isinstance(pieces, list) else list(pieces)
        self.size(sum(map(len, pieces)))
        return "".join(pieces)


_CONTAINERS = (list, tuple, dict, set, frozenset)


def weight(value: Any, limit: int) -> int:
    """About how many characters ``value`` is when written out; raises :class:`Exhausted` beyond ``limit``.

    What is contained twice counts twice, as it would be written.
    """
    total = 0
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            total += len(each) + 4
        elif isinstance(each, dict):
            total += 8 * len(each)
            stack += each
            stack += each.values()
        elif isinstance(each, _CONTAINERS):
            total += 4 * len(each)
            stack += each
        else:
            total += 16
        if total > limit:
            raise Exhausted("made something that is too large")
    return total
