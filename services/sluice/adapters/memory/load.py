"""Processors that are as busy as they are told to be."""


class MemoryLoad:
    """Implements :class:`sluice.ports.load.Load`."""

    def __init__(self, share: float = 0.0) -> None:
        self.share = share

    def busy(self) -> float:
        """See :class:`sluice.ports.load.Load`."""
        return self.share
