"""Publishing at a steady rate, with a record of what was acknowledged and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from sluice.client import Client, NotPublished, Receipt, new_message_id
from sluice.domain.events import Priority
from sluice.local.torture.plan import Plan

SITES_APART = 10
"""One domain of so many lies behind the proxy that is named ``site``."""
BURST_EVERY = 0.05
TENANT = "acme"


class Publisher:
    """Publishes a plan's mails through the SDK. :meth:`run` blocks; the records may be read meanwhile."""

    def __init__(self, bootstrap: str, plan: Plan) -> None:
        self._plan = plan
        self._bootstrap = bootstrap
        self._lock = threading.Lock()
        self.accepted: dict[str, float] = {}
        self.uncertain: set[str] = set()
        self.refused: set[str] = set()
        self.holding: set[str] = set()
        self.submitted = 0
        self.stopped = threading.Event()
        """Set it to publish no more."""

    def run(self) -> None:
        """Publish everything at the plan's rate, then wait until all is settled."""
        plan = self._plan
        with Client(self._bootstrap, source="torture") as client:
            began = time.monotonic()
            for number, (message_id, priority, event) in enumerate(self._events()):
                while (ahead := number / plan.rate - (time.monotonic() - began)) > BURST_EVERY:
                    if self.stopped.wait(ahead):
                        return
                self.submitted += 1
                try:
                    client.submit(event, priority).add_done_callback(self._settler(message_id))
                except NotPublished as error:
                    self._not_published(message_id, error)
            client.flush(90)

    def _events(self) -> Iterator[tuple[str, Priority, dict[str, Any]]]:
        domains = domain_names(self._plan.domains)
        for number in range(self._plan.mails):
            message_id = new_message_id()
            event: dict[str, Any] = {
                "message_id": message_id,
                "tenant_id": TENANT,
                "to": [{"email": f"user{number}@{domains[number % len(domains)]}"}],
                "subject": f"Number {number}",
                "text": "Once upon a time there was a mail that went through a lot.\n" * 5,
            }
            if self._plan.hold_every and number % self._plan.hold_every == 0:
                event["in_doubt"] = "hold"
                self.holding.add(message_id)
            yield message_id, _priority(number), event

    def _settler(self, message_id: str) -> Callable[[Future[Receipt]], None]:
        def settle(future: Future[Receipt]) -> None:
            error = future.exception()
            if error is None:
                with self._lock:
                    self.accepted[message_id] = time.time()
            else:
                self._not_published(message_id, error)

        return settle

    def _not_published(self, message_id: str, error: BaseException) -> None:
        certain = isinstance(error, NotPublished) and error.certain
        with self._lock:
            (self.refused if certain else self.uncertain).add(message_id)


def domain_names(count: int) -> list[str]:
    """The recipients' domains; every tenth is named ``apart``, and has a proxy of its own."""
    return [f"{'apart' if n % SITES_APART == 0 else 'd'}{n}.example" for n in range(count)]


def _priority(number: int) -> Priority:
    if number % 5 == 1:
        return "high"
    return "bulk" if number % 5 == 2 else "normal"
