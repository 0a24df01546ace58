"""Telling a tracing system what happens to a mail, as spans of the trace that its producer began."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from sluice.domain.bounce import Verdict
from sluice.domain.conclusion import Way
from sluice.domain.mail import Envelope, Headers
from sluice.domain.outcome import OutcomeType
from sluice.domain.smtp import Result


class Tried(msgspec.Struct, frozen=True):
    """An attempt, as it ended; ``number`` counts from 1, times are seconds since the epoch."""

    number: int
    result: Result
    verdict: Verdict
    way: Way
    started: float
    ended: float


class Composing(Protocol):
    """A span under way; ``traceparent`` goes on with the mails that are composed in it."""

    @property
    def traceparent(self) -> str:
        """As W3C Trace Context writes it."""
        ...

    def end(self, outcomes: Sequence[OutcomeType], now: float) -> None:
        """What came of the event's mails."""
        ...


class Spans(Protocol):
    """Nothing of it raises, waits, or tells an address."""

    def composing(self, traceparent: str | None, topic: str, message_id: str, now: float) -> Composing | None:
        """Composing of an event begins, which was read from ``topic``; None when nobody wants to hear of it."""
        ...

    def tried(self, headers: Headers, envelope: Envelope, tried: Tried) -> None:
        """An attempt has ended; ``headers`` are those of the mail's record."""
        ...
