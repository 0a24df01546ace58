"""A part that is ready only when what the services need of it has been prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Gate:
    """A check for a supervisor's child: waits until the part answers, prepares it once, and is open from then on.

    ``answers`` looks at the part without waiting long; ``prepare`` blocks and is run once, in the thread of the first
    look that finds the part answering. What ``prepare`` raises is kept in ``failure``, and the gate stays shut.
    """

    def __init__(self, answers: Callable[[], bool], prepare: Callable[[], None]) -> None:
        self.failure: Exception | None = None
        self._answers = answers
        self._prepare = prepare
        self._prepared = False
        self._turn = threading.Lock()

    def check(self) -> bool:
        """Whether the part is ready; any thread may ask, and at most one of them prepares."""
        if self._prepared:
            return self._answers()
        if self.failure is not None or not self._turn.acquire(blocking=False):
            return False
        try:
            if not self._prepared and self._answers():
                self._prepare()
                self._prepared = True
        except Exception as error:
            self.failure = error
        finally:
            self._turn.release()
        return self._prepared
