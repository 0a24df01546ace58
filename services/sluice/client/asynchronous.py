"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from sluice.client.errors import NotPublished
from sluice.client.prepare import MailLike
from sluice.client.producer import Client
from sluice.client.results import Progress, Receipt, Refusal, Summary
from sluice.domain.events import Priority

_QUEUE_FULL_PAUSE_S = 0.005


class AsyncClient:
    """As :class:`sluice.client.Client`, without blocking the event loop."""

    def __init__(self, bootstrap: str, *, source: str = "my-service", **kafka_options: Any) -> None:
        self._client = Client(bootstrap, source=source, **kafka_options)

    async def send(self, mail: MailLike, priority: Priority | None = None, *, timeout_s: float = 60.0) -> Receipt:
        """Publish and wait until the log stored it durably; errors as of :meth:`sluice.client.Client.send`.

        Many may run at once: they share the batches of one connection.
        """
        prepared = self._client.prepare(mail, priority)
        if not self._client.knows(prepared.topic):
            await asyncio.to_thread(self._client.partitions, prepared.topic)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        future = self._client.enqueue(prepared)
                    except BufferError:
                        await asyncio.sleep(_QUEUE_FULL_PAUSE_S)
                    else:
                        return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise NotPublished(f"no acknowledgement within {timeout_s:g} s", certain=False) from error

    async def send_many(
        self,
        mails: Iterable[MailLike],
        priority: Priority | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        on_refused: Callable[[Refusal], None] | None = None,
        on_failed: Callable[[str, NotPublished], None] | None = None,
    ) -> Summary:
        """As :meth:`sluice.client.Client.send_many`, in a thread, which also iterates ``mails`` and calls back."""
        return await asyncio.to_thread(
            self._client.send_many, mails, priority, progress=progress, on_refused=on_refused, on_failed=on_failed
        )

    async def flush(self, timeout_s: float = 60.0) -> int:
        """As :meth:`sluice.client.Client.flush`."""
        return await asyncio.to_thread(self._client.flush, timeout_s)

    async def close(self, timeout_s: float = 60.0) -> int:
        """As :meth:`sluice.client.Client.close`."""
        return await asyncio.to_thread(self._client.close, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = await self.close()
        if left and error is None:
            raise NotPublished(f"{left} events were not acknowledged before closing", certain=False)
