"""A mail in the hands of deliver."""

from __future__ import annotations

from sluice.domain.egress import Egress
from sluice.domain.mail import Mail, Waits
from sluice.domain.outcome import Source
from sluice.ports.intake import Done, Taken


class Item:
    """A mail, the record it was read from, and what happened to it since. Lives in one process's memory only."""

    __slots__ = (
        "attempts", "done", "egress", "handed_back", "mail", "parked_at", "record", "taken_at", "waits",
        "waits_since",
    )  # fmt: skip

    def __init__(self, mail: Mail, record: Taken, done: Done, now: float) -> None:
        self.mail = mail
        self.record = record
        self.done = done
        self.taken_at = now
        self.waits_since: float | None = now
        """Since when it has waited here, as far as :attr:`waits` does not have that yet; None while it is attempted."""
        self.attempts = mail.progress.attempt
        self.handed_back = False
        """Its partition moved away: no attempt may begin, another worker will read the record."""
        self.egress: Egress | None = None
        """Where it is to leave from, once that was chosen."""
        self.parked_at: float | None = None
        """Since when it has waited for room under a limit that several lanes share."""
        progress = mail.progress
        if progress.since is not None and progress.reason:
            self.waits = progress.waits.plus(progress.reason, (now - progress.since) * 1000)
        else:
            self.waits = progress.waits.plus("queue", (now - mail.envelope.composed_at) * 1000)

    @property
    def source(self) -> Source:
        """The record, as outcomes name it."""
        return Source(self.record.topic, self.record.partition, self.record.offset, self.mail.progress.round)

    def waits_at(self, now: float) -> Waits:
        """Its waits, with the time in this worker's queue counted as waiting for a connection."""
        if self.waits_since is None:
            return self.waits
        return self.waits.plus("connection", (now - self.waits_since) * 1000)

    def attempted(self, now: float) -> None:
        """Its wait is over: the time from here on is the attempt's."""
        self.waits, self.waits_since = self.waits_at(now), None


def done_already() -> None:
    """For :attr:`Item.done` once it was called."""
