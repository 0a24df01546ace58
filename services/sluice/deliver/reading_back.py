"""Ledgers that are being read back, and whether that moves."""

from __future__ import annotations

import structlog

from sluice.domain.ledger import Checkpoint, Entry, Ledger
from sluice.ports.clock import Clock
from sluice.ports.ledger import LedgerLog

log = structlog.get_logger(__name__)


class ReadingBack:
    """Reads ledgers for partitions that were just assigned. Times are seconds since the epoch."""

    def __init__(self, ledger_log: LedgerLog, clock: Clock) -> None:
        self._log = ledger_log
        self._clock = clock
        self._readings: dict[int, _Reading] = {}

    async def read(self, partition: int) -> Ledger | None:
        """The partition's ledger; None when it was given up meanwhile, or is being read once more.

        Raises what makes reading impossible.
        """
        began = self._clock.now()
        reading = self._readings[partition] = _Reading(self._clock)
        try:
            count = await self._log.read_back(partition, reading.replay, reading.restore)
        except _GivenUp:
            return None
        except Exception:
            if reading.given_up or self._readings.get(partition) is not reading:
                return None
            raise
        finally:
            ours = self._readings.get(partition) is reading
            if ours:
                del self._readings[partition]
        if not ours:
            return None
        log.info("ledger.read", partition=partition, records=count, seconds=round(self._clock.now() - began, 3))
        return reading.ledger

    def give_up(self, partitions: set[int]) -> None:
        """They have moved away: what is still read of them serves nobody."""
        for partition in partitions:
            if (reading := self._readings.pop(partition, None)) is not None:
                reading.given_up = True

    def stalled(self, limit: float) -> str:
        """Why reading is taken for stalled, or an empty string: nothing came of a ledger for ``limit`` seconds."""
        now = self._clock.now()
        for partition, reading in self._readings.items():
            if (still := now - reading.moved_at) > limit:
                return f"the ledger of partition {partition} is being read back, and nothing came for {still:.0f} s"
        return ""


class _GivenUp(Exception):
    """Nobody waits for this reading any more."""


class _Reading:
    """What one reading has found so far; called from a thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ledger = Ledger()
        self.moved_at = clock.now()
        self.given_up = False

    def replay(self, entry: Entry) -> None:
        self._move()
        self.ledger.replay(entry)

    def restore(self, checkpoint: Checkpoint) -> None:
        self._move()
        self.ledger.restore(checkpoint)

    def _move(self) -> None:
        if self.given_up:
            raise _GivenUp
        self.moved_at = self._clock.now()
