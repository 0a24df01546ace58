"""Publishing a stream of any length: bounded memory, every event settled, nothing raised for one wrong event."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from sluice.client.errors import NotPublished
from sluice.client.prepare import MailLike, Prepared
from sluice.client.results import Progress, Receipt, Refusal, Summary
from sluice.domain.errors import Refused
from sluice.domain.events import Priority

_PROGRESS_EVERY_S = 0.2
_PAUSE_S = 0.005
_index = re.compile(r"\[\d+\]")


class Publisher(Protocol):
    """What a stream needs of a client."""

    def prepare(self, mail: MailLike, priority: Priority | None = None) -> Prepared:
        """As :meth:`sluice.client.Client.prepare`."""
        ...

    def produce(self, prepared: Prepared, report: Callable[[Receipt | Refused | NotPublished], None]) -> None:
        """As :meth:`sluice.client.Client.produce`."""
        ...


class _Stream:
    """The counts of one stream. Reports come on the client's thread, all else happens on the caller's."""

    def __init__(
        self,
        client: Publisher,
        progress: Callable[[Progress], None] | None,
        on_refused: Callable[[Refusal], None] | None,
        on_failed: Callable[[str, NotPublished], None] | None,
    ) -> None:
        self._client = client
        self._progress = progress
        self._on_refused = on_refused
        self._on_failed = on_failed
        self._lock = threading.Lock()
        self._published = 0
        self._unhappy: deque[tuple[int, str, Refused | NotPublished]] = deque()
        self._taken = 0
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[str] = Counter()
        self._began = time.monotonic()
        self._told = self._began

    def offer(self, mail: MailLike, priority: Priority | None) -> None:
        """Publish one event, waiting for room."""
        index = self._taken
        self._taken += 1
        try:
            prepared = self._client.prepare(mail, priority)
        except Refused as error:
            self._refused(index, None, error)
            return

        def report(result: Receipt | Refused | NotPublished) -> None:
            if isinstance(result, Receipt):
                with self._lock:
                    self._published += 1
            else:
                self._unhappy.append((index, prepared.message_id, result))

        while True:
            try:
                self._client.produce(prepared, report)
            except BufferError:
                self.tend()
                time.sleep(_PAUSE_S)
            except Refused as error:
                self._unhappy.append((index, prepared.message_id, error))
                return
            else:
                return

    def tend(self) -> None:
        """Pass on what was reported, and tell the progress when it is time."""
        while self._unhappy:
            index, message_id, error = self._unhappy.popleft()
            if isinstance(error, Refused):
                self._refused(index, message_id, error)
            else:
                self._failures[error.reason] += 1
                if self._on_failed:
                    self._on_failed(message_id, error)
        if self._progress and time.monotonic() - self._told >= _PROGRESS_EVERY_S:
            self._told = time.monotonic()
            self._progress(self._state())

    def settle(self) -> Summary:
        """Wait until every event is published, refused or failed."""
        while True:
            self.tend()
            state = self._state()
            if state.published + state.refused + state.failed == state.taken:
                break
            time.sleep(_PAUSE_S)
        if self._progress:
            self._progress(state)
        return Summary(
            state.taken,
            state.published,
            state.refused,
            state.failed,
            state.seconds,
            dict(self._refusals.most_common()),
            dict(self._failures.most_common()),
        )

    def _state(self) -> Progress:
        with self._lock:
            published = self._published
        seconds = time.monotonic() - self._began
        return Progress(self._taken, published, self._refusals.total(), self._failures.total(), seconds)

    def _refused(self, index: int, message_id: str | None, error: Refused) -> None:
        self._refusals[_index.sub("[]", error.field), error.reason] += 1
        if self._on_refused:
            self._on_refused(Refusal(index, message_id, error.field, error.reason))


def publish_stream(
    client: Publisher,
    mails: Iterable[MailLike],
    priority: Priority | None,
    progress: Callable[[Progress], None] | None,
    on_refused: Callable[[Refusal], None] | None,
    on_failed: Callable[[str, NotPublished], None] | None,
) -> Summary:
    """See :meth:`sluice.client.Client.send_many`."""
    stream = _Stream(client, progress, on_refused, on_failed)
    for mail in mails:
        stream.offer(mail, priority)
        stream.tend()
    return stream.settle()
