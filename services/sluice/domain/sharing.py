"""How workers share out a limit that spans them, with nothing but a log that all of them read in the same order.

A *share* is a fraction of a limit. Every worker reports to the log what it wants and what it uses. Whoever reads the
log up to a record knows the same as everybody who has read as far, so a raise is decided where its record stands: it
is what nobody else uses there. A worker lowers its use before it says so, and raises it after it has read its own
record. So the shares in use never add up to more than the whole, however old the news is that anybody acts on.

A share ends by itself: its worker stops using it :data:`LEASE` seconds after it said so last, by its own clock; others
take it :data:`EXPIRES` seconds after that record, by the log's clock. Only how long a second is must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from sluice.domain.errors import NOT_DECODED, Undecodable

INTERVAL = 1.0
"""Seconds between two reports of a worker."""
LEASE = 4.0
EXPIRES = 5.0
FLOOR = 0.1
"""This part of a limit is divided evenly between those who want some, the rest by how much they want."""
ENOUGH = 0.02
"""A share closer than this to what it should be stays as it is."""
CRUMB = 1e-4
"""A share below this is none: the rest of a rounded sum would have mails wait for years."""


class Claim(msgspec.Struct, frozen=True):
    """What a worker says of a limit: mails per second it wants, the share it uses from now on and the one it asks for.

    ``asked`` is never less than ``held``.
    """

    demand: float
    held: float
    asked: float


class Report(msgspec.Struct, frozen=True):
    """All that a worker says at a time. ``number`` counts its reports; a limit that is not named is given up."""

    node: str
    number: int
    claims: dict[str, Claim] = {}


_decoder = msgspec.json.Decoder(Report)


def encode_report(report: Report) -> bytes:
    """A report as JSON."""
    return msgspec.json.encode(report)


def decode_report(value: bytes) -> Report:
    """The report in ``value``. Raises :class:`Undecodable`."""
    try:
        return _decoder.decode(value)
    except NOT_DECODED as error:
        raise Undecodable("value", str(error)) from error


class _Entry(msgspec.Struct, frozen=True):
    demand: float
    share: float
    asked: float
    at: float


class Board:
    """What the log has said so far. Times are the log's, in seconds."""

    def __init__(self) -> None:
        self._limits: dict[str, dict[str, _Entry]] = {}
        self._named: dict[str, set[str]] = {}
        self._numbers: dict[str, int] = {}
        self._at = 0.0

    def apply(self, report: Report, at: float) -> None:
        """Take in the next record of the log, which stands there since ``at``; one out of order says nothing."""
        self._at = max(self._at, at)
        node = report.node
        if report.number <= self._numbers.get(node, 0):
            return
        self._numbers[node] = report.number
        for key in self._named.get(node, set()) - report.claims.keys():
            self._forget(key, node)
        for key, claim in report.claims.items():
            entries = self._limits.setdefault(key, {})
            for gone in [name for name, entry in entries.items() if at - entry.at >= EXPIRES]:
                del entries[gone]
            before = entries.get(node)
            free = 1.0 - sum(entry.share for name, entry in entries.items() if name != node)
            # A share that expired may be another's by now, whatever a late record says.
            kept = min(claim.held, before.share) if before else 0.0
            share = max(0.0, kept, min(claim.asked, free))
            entries[node] = _Entry(claim.demand, share if share >= CRUMB else 0.0, claim.asked, at)
        self._named[node] = set(report.claims)
        if not report.claims:
            del self._named[node]

    def _forget(self, key: str, node: str) -> None:
        entries = self._limits.get(key, {})
        entries.pop(node, None)
        if not entries:
            self._limits.pop(key, None)

    def share(self, key: str, node: str) -> float:
        """The most that a worker may use of a limit."""
        entry = self._limits.get(key, {}).get(node)
        return entry.share if entry else 0.0

    def shared(self, key: str, node: str) -> bool:
        """Whether anybody else has a share of a limit."""
        return any(entry.share > 0 for entry in self._others(key, node))

    def fair(self, key: str, node: str, demand: float) -> float:
        """The share that a worker with ``demand`` should have."""
        others = [entry.demand for entry in self._others(key, node)]
        total = demand + sum(others)
        if total <= 0:
            return 1.0 / (1 + len(others))
        return FLOOR / (1 + len(others)) + (1 - FLOOR) * demand / total

    def free(self, key: str) -> float:
        """What nobody uses of a limit."""
        return 1.0 - sum(e.share for e in self._limits.get(key, {}).values() if self._at - e.at < EXPIRES)

    def short(self, key: str, node: str) -> bool:
        """Whether others ask for more than is free."""
        others = list(self._others(key, node))
        free = 1.0 - self.share(key, node) - sum(entry.share for entry in others)
        return sum(max(0.0, entry.asked - entry.share) for entry in others) > free + ENOUGH / 2

    def _others(self, key: str, node: str) -> Iterator[_Entry]:
        for name, entry in self._limits.get(key, {}).items():
            if name != node and self._at - entry.at < EXPIRES:
                yield entry


class Shares:
    """A worker's side of it. ``node`` must be a name that no other process has or had. Times are the worker's own."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.board = Board()
        self._held: dict[str, float] = {}
        self._wanted: dict[str, float] = {}
        self._number = 0
        self._said_at = 0.0
        self._until = 0.0

    def share(self, key: str, now: float) -> float:
        """What this worker may use of a limit at this moment: 0.0 to 1.0."""
        return self._held.get(key, 0.0) if now < self._until else 0.0

    def shared(self, key: str) -> bool:
        """Whether anybody else has a share of a limit."""
        return self.board.shared(key, self.node)

    def rising(self, key: str, demand: float, now: float) -> bool:
        """Whether this worker, which has some of a limit, is due more of it with ``demand`` mails per second."""
        return 0.0 < self.share(key, now) < self.board.fair(key, self.node, demand) - ENOUGH

    def wants_to_move(self, now: float) -> bool:
        """Whether a report now would lower a share that others need, or raise one that is free to be raised."""
        for key, demand in self._wanted.items():
            held, fair = self.share(key, now), self.board.fair(key, self.node, demand)
            if fair < held - ENOUGH and self.board.short(key, self.node):
                return True
            if fair > held + ENOUGH and self.board.free(key) > ENOUGH:
                return True
        return False

    def report(self, demands: Mapping[str, float], now: float) -> Report:
        """What to say now, and be bound by at once: mails per second wanted, for every limit not to be given up."""
        claims = {}
        for key, demand in demands.items():
            held = self.share(key, now)
            asked = self.board.fair(key, self.node, demand)
            if abs(asked - held) < ENOUGH or (asked < held and not self.board.short(key, self.node)):
                asked = held
            claims[key] = Claim(demand, min(held, asked), asked)
        self._held = {key: claim.held for key, claim in claims.items()}
        self._wanted = {key: claim.demand for key, claim in claims.items()}
        self._number += 1
        self._said_at = now
        return Report(self.node, self._number, claims)

    def hear(self, report: Report, at: float, now: float) -> None:
        """Take in the next record of the log, which stands there since ``at`` by its clock."""
        self.board.apply(report, at)
        # An older one of ours was overtaken by what we have said since.
        if report.node == self.node and report.number == self._number and now < self._said_at + LEASE:
            self._until = self._said_at + LEASE
            self._held = {key: self.board.share(key, self.node) for key in report.claims}
