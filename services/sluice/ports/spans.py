"""Telling a tracing system what happens to a mail, as spans of the trace that its producer began."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from sluice.domain.bounce import Verdict
from sluice.domain.conclusion import Way
from sluice.domain.conversation import Part
from sluice.domain.mail import Envelope, Headers, Waits
from sluice.domain.outcome import Outcome, OutcomeType
from sluice.domain.smtp import Result


class Tried(msgspec.Struct, frozen=True):
    """An attempt, as it ended; ``number`` counts from 1, times are seconds since the epoch, those of ``parts`` too."""

    number: int
    result: Result
    verdict: Verdict
    way: Way
    started: float
    ended: float
    parts: Sequence[Part] = ()
    waits: Waits = Waits()


class Rested(msgspec.Struct, frozen=True):
    """A record's stay in the wheel, in whose ``topic`` it was last; ``reason`` as in :class:`sluice.domain.mail.Waits`.

    Seconds since the epoch: ``since`` it was put in, ``due`` back, and ``until`` it went ``to`` a topic.
    """

    topic: str
    to: str
    reason: str
    since: float
    due: float
    until: float


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
    """Nothing of it raises, waits, or tells an address. ``headers`` are those of the mail's record."""

    def composing(self, traceparent: str | None, topic: str, message_id: str, now: float) -> Composing | None:
        """Composing of an event begins, which was read from ``topic``; None when nobody wants to hear of it."""
        ...

    def tried(self, headers: Headers, envelope: Envelope, tried: Tried) -> str | None:
        """An attempt has ended; the id of its span (16 hexadecimal digits), None when nobody wants to hear of it."""
        ...

    def rested(self, headers: Headers, rested: Rested) -> None:
        """A record has left the wheel."""
        ...

    def recorded(self, outcomes: Sequence[Outcome], topic: str, count: int, began: float, ended: float) -> None:
        """A batch of ``count`` outcomes of ``topic`` is stored; ``outcomes`` are those of it that name a span."""
        ...
