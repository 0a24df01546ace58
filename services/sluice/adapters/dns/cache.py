"""Answers kept for as long as they may be, and questions asked once at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class AnswerCache(Generic[K, V]):
    """Keeps up to ``entries`` answers, forgetting the least recently used; ``now`` gives seconds."""

    def __init__(self, entries: int, now: Callable[[], float]) -> None:
        self._entries = entries
        self._now = now
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: K, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The answer to ``key``; when it is not known, that of ``ask``, which gives it with the seconds to keep it.

        Those who want the same answer at the same time share one question, which goes on when one of them gives up.
        """
        kept = self._kept.get(key)
        if kept is not None:
            if kept[1] > self._now():
                self._kept.move_to_end(key)
                return kept[0]
            del self._kept[key]
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._ask(key, ask))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        answer, seconds = await ask()
        self._kept[key] = (answer, self._now() + seconds)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)
        return answer

    async def close(self) -> None:
        """Give up the questions under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
