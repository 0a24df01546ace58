"""A thread that reads what a topic holds, says when that is in, and goes on following it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException

from sluice.adapters.kafka.reading import reader

log = structlog.get_logger(__name__)
AGAIN_S = 0.5


class LoadingThread(ABC):
    """Runs :meth:`_follow` on a thread of its own, with a consumer, until stopped or until Kafka ends it.

    What Kafka refuses because a broker restarts or a leader moves is asked for again, from the beginning, for
    ``patience_s`` seconds.
    """

    patience_s = 30.0

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._options = options
        self._name = name
        self._stopping = threading.Event()
        self._loaded = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read; :meth:`wait_loaded` tells when what was there at the start is in."""
        self._thread.start()

    def wait_loaded(self, timeout_s: float) -> bool:
        """Block until loaded; False when that took longer. Raises what made reading impossible."""
        deadline = time.monotonic() + timeout_s
        while not self._loaded.wait(0.1):
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline:
                return False
        return True

    @property
    def loaded(self) -> bool:
        """Whether everything that was there at the start has been taken in."""
        return self._loaded.is_set()

    @property
    def failure(self) -> BaseException | None:
        """What ended the reading, if something did."""
        return self._failure

    def stop(self) -> None:
        """Stop reading; harmless when it never began."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        try:
            self._follow_on()
        except Exception as error:
            # Whatever it is, nobody reads any more: a thread that ends in silence would leave what was known to age.
            log.exception("reading.failed", thread=self._name)
            self._failure = error

    def _follow_on(self) -> None:
        failing_since: float | None = None
        while not self._stopping.is_set():
            began = time.monotonic()
            consumer = reader(self._options)
            try:
                self._follow(consumer)
            except KafkaException as error:
                now = time.monotonic()
                # What had been in, and was followed for longer than anything is waited for, did not fail before.
                went_on = self.loaded and now - began > self.patience_s
                failing_since = now if went_on else began if failing_since is None else failing_since
                if now - failing_since > self.patience_s:
                    raise
                log.warning("reading.again", what=self._name, error=str(error), seconds=round(now - failing_since, 1))
                self._stopping.wait(AGAIN_S)
            finally:
                consumer.close()

    @abstractmethod
    def _follow(self, consumer: Consumer) -> None:
        """Read until ``_stopping`` is set; set ``_loaded`` when what was there is in. May raise KafkaException."""
