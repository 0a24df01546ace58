"""What publishing returns."""

from __future__ import annotations

import msgspec


class Receipt(msgspec.Struct, frozen=True):
    """An event is stored durably: its id, and where it stands in the log."""

    message_id: str
    topic: str
    partition: int
    offset: int


class Refusal(msgspec.Struct, frozen=True):
    """An event that was not published because it is wrong: the ``index`` th of the stream, counted from 0.

    ``field`` is the path of what is wrong (``to[0].email``), ``reason`` a sentence.
    """

    index: int
    message_id: str | None
    field: str
    reason: str


class Progress(msgspec.Struct, frozen=True):
    """How far a stream has come. ``taken`` is what was read of it; the others say what became of that so far."""

    taken: int
    published: int
    refused: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events acknowledged per second so far."""
        return self.published / self.seconds if self.seconds else 0.0


class Summary(msgspec.Struct, frozen=True):
    """What became of a stream: ``taken = published + refused + failed``.

    ``refusals`` counts by (field, reason), an index in the field written as ``[]``. ``failures`` counts by reason what
    the log did not acknowledge.
    """

    taken: int
    published: int
    refused: int
    failed: int
    seconds: float
    refusals: dict[tuple[str, str], int]
    failures: dict[str, int]

    @property
    def rate(self) -> float:
        """Events acknowledged per second."""
        return self.published / self.seconds if self.seconds else 0.0
