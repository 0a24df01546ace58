"""Reading a partition's ledger back."""

from collections.abc import Callable
from typing import Protocol

from sluice.domain.ledger import Checkpoint, Entry


class LedgerLog(Protocol):
    """The outcomes and checkpoints of a partition of ``mail.outcome``."""

    async def read_back(
        self, partition: int, entry: Callable[[Entry], None], checkpoint: Callable[[Checkpoint], None]
    ) -> int:
        """Call ``entry`` and ``checkpoint`` for what was recorded of late, in log order; returns how many were read.

        Goes back at least to the last checkpoint, and far enough for repeats to be recognised.
        """
        ...
