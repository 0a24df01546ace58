"""Message ids and trace contexts, made without asking anybody."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

_COUNTER_BITS = 32
_COUNTER_START = 1 << (_COUNTER_BITS - 1)


class MessageIds:
    """UUIDv7 (RFC 9562, section 5.7), strictly increasing within the process; safe to call from any thread.

    Below the millisecond stand a counter of 32 bits, seeded anew each millisecond with its top bit clear (section 6.2,
    method 1), and 42 random bits. When the clock steps back the last millisecond is kept.
    """

    def __init__(
        self,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_ms = clock_ms
        self._random = random
        self._lock = threading.Lock()
        self._last_ms = -1
        self._counter = 0

    def __call__(self) -> str:
        """The next id, in the usual 36 characters."""
        noise = int.from_bytes(self._random(10), "big")
        with self._lock:
            now = self._clock_ms()
            if now > self._last_ms:
                self._last_ms = now
                self._counter = (noise >> 42) % _COUNTER_START
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:
                    self._last_ms += 1
                    self._counter = (noise >> 42) % _COUNTER_START
            milliseconds, counter = self._last_ms, self._counter
        below = counter << 42 | noise & (1 << 42) - 1
        digits = f"{milliseconds:012x}7{below >> 62:03x}{2 << 62 | below & (1 << 62) - 1:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


new_message_id = MessageIds()
"""A new message id: a UUIDv7 later than any made before in this process."""


def traceparent() -> str:
    """The active OpenTelemetry span as W3C ``traceparent``, or a new sampled trace when there is none.

    OpenTelemetry is looked for, never imported: a span can be active only where the application imported it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    digits = os.urandom(24).hex()
    return f"00-{digits[:32]}-{digits[32:]}-01"
