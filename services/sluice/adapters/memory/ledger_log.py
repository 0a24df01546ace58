"""A ledger log that reads a memory bus back."""

from __future__ import annotations

from collections.abc import Callable

from sluice.adapters.memory.bus import MemoryBus
from sluice.domain.ledger import CHECKPOINT_TYPE, Checkpoint, Entry, decode_checkpoint, decode_entry
from sluice.domain.topics import OUTCOME


class MemoryLedgerLog:
    """Implements :class:`sluice.ports.ledger.LedgerLog` over everything the bus has stored."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    async def read_back(
        self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]
    ) -> int:
        """See :class:`sluice.ports.ledger.LedgerLog`."""
        records = self._bus.stored[OUTCOME, partition]
        for record in records:
            if ("ce_type", CHECKPOINT_TYPE.encode()) in record.headers:
                checkpoint(decode_checkpoint(record.value or b""))
            else:
                entry(decode_entry(record.value or b""))
        return len(records)
