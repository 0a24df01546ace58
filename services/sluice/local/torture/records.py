"""What the records say that a run is reckoned from."""

from __future__ import annotations

from typing import Literal

import msgspec

from sluice.local.torture.plan import Fault

Reply = Literal["250", "421", "none", "reset"]
"""What the receiving server did after the final dot; ``none`` is silence, ``reset`` a reset connection."""


class Copy(msgspec.Struct, frozen=True):
    """A mail whose final dot the receiving server read. Moments are seconds since the epoch."""

    message_id: str
    at: float
    kept: bool
    """Whether the server has the mail from then on, whatever it answered."""
    reply: Reply | None = None
    """What it answered, None when it died before."""


class Row(msgspec.Struct, frozen=True):
    """An outcome in ClickHouse. ``place`` is its partition and offset in ``mail.outcome``."""

    message_id: str
    event_type: str
    at: float
    node: str
    place: tuple[int, int]
    abandoned: bool = False
    """For ``in_doubt``: a later owner found the attempt without an outcome."""
    detail: str = ""
    """For people: of which record and round, at which lane, why, until when."""


class Injected(msgspec.Struct, frozen=True):
    """A fault as it was done: from ``at`` to ``until``, seconds since the epoch."""

    fault: Fault
    at: float
    until: float
    note: str = ""
    """What did not go as planned."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The independent records of one run.

    ``accepted`` has, by message id, when Kafka's acknowledgement reached the publisher. ``uncertain`` are ids whose
    publishing failed without telling whether the log has them, ``refused`` those that certainly were not published.
    ``logged`` are the places of outcomes in ``mail.outcome``; ``rollup`` counts outcomes by type in the table per
    minute.
    """

    accepted: dict[str, float]
    uncertain: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    holding: frozenset[str] = frozenset()
    """Ids of mails that are to be held when in doubt."""
    copies: tuple[Copy, ...] = ()
    rows: tuple[Row, ...] = ()
    logged: frozenset[tuple[int, int]] = frozenset()
    rollup: dict[str, int] = {}
    injected: tuple[Injected, ...] = ()
